"""A sweep above the site's limit on submitted jobs, where the environment says how high that is."""

from __future__ import annotations

import asyncio
import os

import pytest

from firecrest_core import JobSpec, JobState, System, lifecycle
from firecrest_core.jobs.key import ClaimKey, claim_identity

LIMIT = int(os.environ.get("FIRECREST_MAX_SUBMIT_JOBS", "0"))


@pytest.mark.skipif(not LIMIT, reason="FIRECREST_MAX_SUBMIT_JOBS does not say how many jobs the site takes")
async def test_a_sweep_above_the_limit_runs_to_its_end(
    system: System, workdir: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = JobSpec(working_dir=workdir, command="sleep 20", name="live-sweep", time_limit="5:00")

    async def run(number: int) -> JobState:
        key = ClaimKey(claim_identity("live", "sweep", number, nonce=workdir))
        job = await lifecycle.submit(system, spec, key, first_attempt=True)
        return (await lifecycle.wait(system, job, poll_interval=2)).state

    states = await asyncio.gather(*map(run, range(LIMIT + 5)))
    assert states == [JobState.COMPLETED] * (LIMIT + 5)
    assert any("waits for room" in message and "Limit is reached" in message for message in caplog.messages)
