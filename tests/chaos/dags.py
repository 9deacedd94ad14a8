"""One DAG for each variant: a job that runs until the file `finish` exists, and perhaps a download of its result."""

import os
from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_firecrest.operators import FirecRESTDownloadFromJobOperator, FirecRESTSubmitOperator

# Each payload writes when it starts and ends, with its job, array element and process.
SCRIPT = """#!/bin/bash
{% if dag_run.conf.gate %}#SBATCH --dependency=afterany:{{ dag_run.conf.gate }}
{% endif %}
record() {
    job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}
    echo "$1 $(date +%s.%N) $job ${SLURM_ARRAY_TASK_ID:--} $$ $2" >> payloads
}
record started
trap 'record ended $?' EXIT
until [ -e finish ]; do sleep 0.2; done
{% if dag_run.conf.fails_once %}if mkdir "failed${SLURM_ARRAY_TASK_ID-}" 2> /dev/null; then exit 1; fi
{% endif %}echo "$SLURM_JOB_ID" >> result
"""
RETRIES = {"retries": 8, "retry_delay": timedelta(seconds=1)}

for deferrable in (True, False):
    for array in (True, False):
        for fetch in (True, False):
            name = "_".join(
                ["deferred" if deferrable else "worker", "array" if array else "single", *(["fetch"] if fetch else [])]
            )
            with DAG(name, schedule=None, max_active_runs=100, max_active_tasks=100, default_args=RETRIES) as dag:
                job = FirecRESTSubmitOperator(
                    task_id="job",
                    script=SCRIPT,
                    working_dir=os.environ["FIRECREST_WORKDIR"] + "/{{ run_id }}",
                    job={"name": "{{ run_id }}", "time_limit": 30} | ({"array": "0-2"} if array else {}),
                    deferrable=deferrable,
                    poll_interval=float(os.environ["KILL_MATRIX_POLL_INTERVAL"]),
                    exactly_once="KILL_MATRIX_SABOTAGE" not in os.environ,
                )
                if fetch:
                    job >> FirecRESTDownloadFromJobOperator(
                        task_id="fetch",
                        remote_files="result",
                        local_path=os.environ["EXAMPLES_FOLDER"] + "/{{ run_id }}",
                        target_task_id="job",
                        deferrable=deferrable,
                    )
