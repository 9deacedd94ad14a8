"""A sweep that is larger than the site's limit on submitted jobs."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from firecrest_core import FirecRESTClient, JobSpec, JobState, errors, lifecycle
from firecrest_core.jobs.key import ClaimKey
from harness.slurm import Slurm


async def test_a_sweep_above_the_limit_runs_to_its_end(
    client: FirecRESTClient, workdir: Path, slurm: Slurm, caplog: pytest.LogCaptureFixture
) -> None:
    spec = JobSpec(command="echo $SLURM_JOB_ID >> runs; sleep 1", working_dir=str(workdir))
    system = client.system()

    async def run(number: int) -> JobState:
        key = ClaimKey(f"point-{number}") if number % 2 else None
        job = await lifecycle.submit(system, spec, key, first_attempt=True)
        return (await lifecycle.wait(system, job, poll_interval=1)).state

    with slurm.max_submit_jobs(3), caplog.at_level(logging.WARNING):
        states = await asyncio.gather(*map(run, range(20)))
    assert states == [JobState.COMPLETED] * 20
    assert len(set((workdir / "runs").read_text().split())) == 20
    waits = [message for message in caplog.messages if "waits for room" in message]
    assert 0 < len(waits) <= 17
    assert all("AssocMaxSubmitJobLimit is reached" in message for message in waits)


async def test_a_limit_on_the_job_itself_is_final(client: FirecRESTClient, workdir: Path, slurm: Slurm) -> None:
    account = ("sacctmgr", "-i", "modify", "qos", "normal", "set")
    slurm.command(*account, "Flags=DenyOnLimit", "MaxWall=1")
    try:
        with pytest.raises(errors.SubmissionRejected, match=r"(?s)QOSMaxWallDurationPerJobLimit.* Lower time_limit"):
            await lifecycle.submit(client.system(), JobSpec(command="true", working_dir=str(workdir), time_limit=60))
    finally:
        slurm.command(*account, "Flags=-1", "MaxWall=-1")
