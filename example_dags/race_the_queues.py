"""Wait in several queues at once: the first that starts the job runs it, and the others let it go.

A job of twenty minutes fits into the partition for short jobs, whose queue may be shorter or longer than the other.
The task submits it to both. The claim of the two jobs lets one of them run, and the other one is cancelled.

    race (two jobs, one of which runs) ─▶ report
"""

from __future__ import annotations

import os

from airflow.sdk import DAG, Param, task

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator

with DAG(
    dag_id="race_the_queues",
    description="A job in two queues, of which the faster one runs it",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    tags=["example", "firecrest"],
    params={
        "partition": Param("normal", type="string", description="Partition for jobs of any length"),
        "short_partition": Param("debug", type="string", description="Partition for short jobs"),
        "working_dir": Param(
            os.environ.get("FIRECREST_WORKDIR", "/scratch"),
            type="string",
            description="Directory on the cluster in which each run makes its own",
        ),
        "account": Param(None, type=["null", "string"], description="Account or project; empty for the default one"),
    },
):
    race = FirecRESTSubmitOperator(
        task_id="race",
        name="race",
        command=(
            'echo "job $SLURM_JOB_ID runs in $SLURM_JOB_PARTITION" | tee -a began.txt; '
            'printf \'"%s"\' "$SLURM_JOB_PARTITION" > return.json'
        ),
        working_dir="{{ params.working_dir }}/race_the_queues/{{ run_id }}",
        make_working_dir=True,
        account="{{ params.account or '' }}",
        time_limit="1:00:00",
        alternatives=[
            {"partition": "{{ params.partition }}"},
            {"partition": "{{ params.short_partition }}", "time_limit": 20},
        ],
        poll_interval=2,
    )

    @task
    def report(job: dict, partition: str) -> str:
        """Return the partition that was faster."""
        print(f"job {job['job_id']} began first, in {partition}")
        return partition

    report(race.output, race.output["return"])
