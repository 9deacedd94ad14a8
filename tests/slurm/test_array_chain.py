"""An array of chains in a real Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from firecrest_core import Chain, FirecRESTClient, Job, JobResult, JobSpec, JobState, lifecycle
from firecrest_core.campaign import Campaign
from firecrest_core.jobs.key import ClaimKey

# Of a time limit of a minute, Slurm sends the signal in the first seconds. Element 1 handles it, and it ends element 2.
SCRIPT = """#!/bin/bash
mkdir -p run-$SLURM_ARRAY_TASK_ID/ckpt; cd run-$SLURM_ARRAY_TASK_ID; echo >> jobs
case $SLURM_ARRAY_TASK_ID.$(wc -l < jobs) in
    1.1) trap 'touch ckpt/1; exit 0' USR1; while :; do sleep 0.2; done ;;
    2.1) touch ckpt/1; exec sleep 100 ;;
    3.*) exit ;;
esac
touch done
"""


async def test_the_elements_go_on_that_the_signal_has_stopped(
    client: FirecRESTClient, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firecrest_core.campaign.CACHED", 0.0)
    campaign = Campaign(
        client.system(),
        JobSpec(script=SCRIPT, working_dir=str(workdir), time_limit=1, array="0-3%3"),
        chain=Chain(max_jobs=5, signal="B:USR1@55", done="run-%a/done", checkpoint="run-%a/ckpt/*"),
    )
    job: Job | JobResult = await campaign.submit(ClaimKey("chains"), first_attempt=True)
    log: list[str] = []
    while isinstance(job, Job):
        result = await lifecycle.wait(client.system(), job, poll_interval=1)
        job = await campaign.follow(job, result, log.append)
    assert "elements 1-2 go on, job 2 of at most 5; done: 0; stopped: 3." in log[0]
    assert [(workdir / f"run-{index}" / "jobs").read_text() for index in range(4)] == ["\n", "\n\n", "\n\n", "\n"]
    assert job.element_counts == {JobState.COMPLETED: 3, JobState.FAILED: 1}
    assert str(job.failed_indices) == "3"
    assert "ended COMPLETED without run-3/done and a new run-3/ckpt/*" in job.problem
