"""Flows that tests serve, kill, cancel, suspend and run again: ``python served.py NAME``, the deployments' name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from prefect import flow, serve, suspend_flow_run

from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, run_job, run_jobs, submit_job, wait_for_job


def describe(working_dir: str, command: str, name: str | None = None) -> FirecRESTJob:
    """Describe a job whose payload adds a line to ``runs``."""
    return FirecRESTJob(
        credentials=FirecRESTCredentials.load("cluster"),
        working_dir=working_dir,
        command=f"echo $SLURM_JOB_ID >> runs; {command}",
        name=name,
        poll_interval=0.5,
    )


def tell_process(working_dir: str) -> None:
    """Add this process's id to ``processes``."""
    with Path(working_dir, "processes").open("a") as file:
        print(os.getpid(), file=file, flush=True)


@flow
def relax(working_dir: str, suspend: bool = False) -> None:
    """Submit two equal jobs and wait for both."""
    job = describe(working_dir, "until [ -e go ]; do sleep 0.1; done")
    runs = submit_job.map([job, job]).result()
    tell_process(working_dir)
    if suspend:
        suspend_flow_run(timeout=600)
    wait_for_job.map(runs).wait()


@flow
def endless(working_dir: str, case: Literal["direct", "submit", "map", "subflow", "suspended"]) -> None:
    """Wait for jobs that run until somebody cancels them, in one of the ways in which a flow may wait."""
    jobs = [describe(working_dir, "sleep 600", name=f"relax-{number}") for number in range(8 if case == "map" else 1)]
    tell_process(working_dir)
    match case:
        case "direct":
            wait_for_job(submit_job(jobs[0]))
        case "submit":
            wait_for_job.submit(submit_job.submit(jobs[0])).result()
        case "map":
            wait_for_job.map(submit_job.map(jobs)).wait()
        case "subflow":
            run_job(jobs[0])
        case "suspended":
            run_job(jobs[0], wait="suspend")


@flow
def patient(working_dir: str, command: str) -> str:
    """Wait for two jobs without a process."""
    tell_process(working_dir)
    run_job(describe(working_dir, "until [ -e go ]; do sleep 0.1; done"), wait="suspend")
    return run_job(describe(working_dir, command), wait="suspend").job_id


@flow
def sweep(working_dir: str, commands: list[str]) -> None:
    """Wait for many jobs without a process."""
    tell_process(working_dir)
    jobs = [describe(working_dir, command) for command in commands]
    run_jobs(
        jobs, remote_files=["slurm-{job_id}.out"], local_directory=f"{working_dir}/fetched/{{number}}", wait="suspend"
    )


if __name__ == "__main__":
    serve(*(each.to_deployment(sys.argv[1]) for each in (relax, endless, patient, sweep)))
