"""A flow that test_server.py serves, kills, suspends and runs again: ``python served.py``."""

from __future__ import annotations

import os
from pathlib import Path

from prefect import flow, suspend_flow_run

from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, submit_job, wait_for_job


@flow
def relax(working_dir: str, suspend: bool = False) -> None:
    """Submit two equal jobs and wait for both."""
    job = FirecRESTJob(
        credentials=FirecRESTCredentials.load("cluster"),
        working_dir=working_dir,
        command="echo $SLURM_JOB_ID >> runs; until [ -e go ]; do sleep 0.1; done",
        poll_interval=0.5,
    )
    runs = submit_job.map([job, job]).result()
    with Path(working_dir, "processes").open("a") as file:
        print(os.getpid(), file=file, flush=True)
    if suspend:
        suspend_flow_run(timeout=600)
    wait_for_job.map(runs).wait()


if __name__ == "__main__":
    relax.serve(name="served")
