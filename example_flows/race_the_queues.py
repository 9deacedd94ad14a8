"""Wait in several queues at once: the first that starts the job runs it, and the others let it go.

    run_job (two jobs, one of which runs)

A job of twenty minutes fits into the partition for short jobs, whose queue may be shorter or longer than the other.
The flow submits it to both. The claim of the two jobs lets one of them run, and the other one is cancelled.
"""

from __future__ import annotations

import os
from pathlib import Path

from prefect import flow, runtime

from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, run_job

FOLDER = Path(os.environ.get("EXAMPLES_FOLDER", Path.home() / "firecrest-examples"), "races")


@flow(log_prints=True)
def race_the_queues(
    partition: str = "normal",
    short_partition: str = "debug",
    working_dir: str = os.environ.get("FIRECREST_WORKDIR", "/scratch"),
    account: str | None = None,
    credentials: str | None = None,
) -> str:
    """Return the partition that was faster.

    Args:
        partition: Partition for jobs of any length.
        short_partition: Partition for short jobs.
        working_dir: Directory on the cluster in which each run makes its own.
        account: Account or project; empty for the default one.
        credentials: Name of a saved block of credentials; if empty, the FIRECREST_* variables of the environment count.
    """
    job = FirecRESTJob(
        credentials=FirecRESTCredentials.load(credentials) if credentials else FirecRESTCredentials.from_environment(),
        name="race",
        command='echo "job $SLURM_JOB_ID runs in $SLURM_JOB_PARTITION" | tee -a began.txt',
        working_dir=f"{working_dir}/race_the_queues/{runtime.flow_run.id}",
        make_working_dir=True,
        account=account,
        time_limit="1:00:00",
        alternatives=[{"partition": partition}, {"partition": short_partition, "time_limit": 20}],
        poll_interval=2,
    )
    result = run_job(job, outputs={"began.txt": f"{FOLDER}/{runtime.flow_run.id}/"})
    began = Path(result.fetched[0]).read_text().strip()
    print(began)
    return began.rpartition(" ")[2]


if __name__ == "__main__":
    race_the_queues()
