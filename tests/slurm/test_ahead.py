"""Chains whose next job is submitted ahead, on a real Slurm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import Chain, FirecRESTClient, Job, JobResult, JobSpec, JobState, lifecycle
from firecrest_core.campaign import Campaign
from firecrest_core.jobs.key import ClaimKey
from harness.slurm import Slurm

KEY = ClaimKey("ahead")
# Each job runs until the next one waits behind it.
WORK = """#!/bin/bash
mkdir -p ckpt; echo $SLURM_JOB_ID >> jobs; n=$(wc -l < jobs)
until [ -e go-$n ]; do sleep 0.1; done
touch ckpt/$n
[ $n -lt {jobs} ] || touch done
"""


async def run(client: FirecRESTClient, workdir: Path, slurm: Slurm, jobs: int) -> tuple[JobResult, list[str]]:
    """Return how a chain of so many jobs has ended, and the jobs that waited behind others."""
    chain = Chain(max_jobs=5, signal="B:USR1@60", done="done", checkpoint="ckpt/*", ahead=True)
    spec = JobSpec(script=WORK.replace("{jobs}", str(jobs)), working_dir=str(workdir), time_limit=5)
    campaign, waiting = Campaign(client.system(), spec, chain=chain), []

    def on_message(line: str) -> None:
        if "waits in the queue already" in line:
            job_id = line.split()[1]
            assert "Dependency" in slurm.command("squeue", "-h", "-o", "%r %E", "-j", job_id)
            waiting.append(job_id)
            (workdir / f"go-{len(waiting)}").touch()

    job: Job | JobResult = await campaign.submit(KEY, first_attempt=True, on_message=on_message)
    while isinstance(job, Job):
        async with campaign.submitting_ahead(job, on_message=on_message) as on_status:
            result = await lifecycle.wait(client.system(), job, poll_interval=1, timeout=120, on_status=on_status)
        job = await campaign.follow(job, result, on_message)
    return job, waiting


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("jobs", [3, 1])
async def test_the_jobs_of_a_chain_wait_behind_each_other(
    client: FirecRESTClient, workdir: Path, slurm: Slurm, jobs: int
) -> None:
    result, waiting = await run(client, workdir, slurm, jobs)
    assert (result.state, result.problem) == (JobState.COMPLETED, "")
    payloads = (workdir / "jobs").read_text().split()
    assert len(waiting) == len(payloads) == jobs
    assert payloads[1:] == waiting[:-1]
    await until(lambda: "JobState=CANCELLED" in slurm.command("scontrol", "show", "job", waiting[-1]))
