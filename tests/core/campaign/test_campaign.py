"""Campaigns on the embedded server: the jobs of one task, one after the other, whoever waits for them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import lifecycle
from firecrest_core.api.client import System
from firecrest_core.campaign import Campaign
from firecrest_core.course import EarlierJob
from firecrest_core.errors import InvalidJobSpec, JobWithdrawn, SubmissionRejected
from firecrest_core.escalation import Escalation
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST

POLICY = {
    "out_of_memory": {"memory": "x2", "max": "512M"},
    "time_limit": {"time_limit": "x20", "max": "00:01:00"},
    "node_failure": {"exclude": "node", "max": 3},
}
KEY = ClaimKey("campaign")
# The parent of a script is what stands for the daemon of its node.
LOSE_NODE = "kill -9 $PPID; exit\n"
COUNT = "#!/bin/bash\necho $SLURM_JOB_ID >> jobs; n=$(wc -l < jobs)\n"


def job_of(workdir: Path, script: str, **fields: Any) -> JobSpec:
    asked = {"working_dir": str(workdir), "script": COUNT + script, "memory": "64M", "time_limit": "00:00:05"}
    return JobSpec(**asked | fields)


async def run(campaign: Campaign, lines: list[str] | None = None, **how: Any) -> JobResult:
    on_message = (lines if lines is not None else []).append
    job: Job | JobResult = await campaign.submit(KEY, on_message=on_message, **how)
    while isinstance(job, Job):
        result = await lifecycle.wait(campaign.system, job, poll_interval=0.2)
        job = await campaign.follow(job, result, on_message)
    return job


def jobs_in(workdir: Path) -> list[str]:
    return (workdir / "jobs").read_text().split()


async def test_memory_time_and_node_are_mended_without_a_person(system: System, workdir: Path) -> None:
    script = f"""
    if [ $n = 1 ]; then exec python3 -c 'import time; held = bytearray(90 << 20); time.sleep(60)'; fi
    if [ $n = 2 ]; then sleep 60; fi
    if [ $n = 3 ]; then {LOSE_NODE.strip()}; fi
    """
    lines: list[str] = []
    result = await run(Campaign(system, job_of(workdir, script), Escalation.parse(POLICY)), lines, first_attempt=True)
    assert result.succeeded
    assert result.course is not None
    first, second, third, last = jobs_in(workdir)
    assert result.course.earlier_jobs == (
        EarlierJob(first, "out_of_memory"),
        EarlierJob(second, "time_limit"),
        EarlierJob(third, "node_failure"),
    )
    assert result.job_id == last
    assert (result.course.memory, result.course.time_limit) == ("128M", "00:01:00")
    assert result.course.excluded_nodes == result.nodes
    assert [line.partition(":")[0] for line in lines] == [
        f"Job {first} ended OUT_OF_MEMORY with a memory of 64M",
        f"Job {second} ended TIMEOUT with a time limit of 00",
        f"Job {third} ended NODE_FAIL",
    ]


async def test_a_bound_ends_it_with_a_sentence(system: System, workdir: Path) -> None:
    policy = Escalation.parse({"node_failure": {"max": 1}})
    result = await run(Campaign(system, job_of(workdir, LOSE_NODE), policy), first_attempt=True)
    assert (result.state, len(jobs_in(workdir))) == (JobState.NODE_FAIL, 2)
    assert "no other job follows" in result.problem


async def test_a_script_that_fails_is_for_a_person_and_the_engines_retry(system: System, workdir: Path) -> None:
    campaign = Campaign(system, job_of(workdir, "[ $n = 2 ]"), Escalation.parse(POLICY))
    result = await run(campaign, first_attempt=True)
    assert (result.state, result.problem, len(jobs_in(workdir))) == (JobState.FAILED, "", 1)
    result = await run(campaign)
    assert result.succeeded
    assert result.course is not None
    assert result.course.earlier_jobs == (EarlierJob(jobs_in(workdir)[0], "retry"),)
    assert (await run(campaign)).job_id == result.job_id  # what has ended well is not run again


@pytest.mark.parametrize("fields", [{}, {"array": "0-1"}])
async def test_a_retry_after_the_last_lost_node_is_another_job(
    system: System, workdir: Path, fields: dict[str, Any]
) -> None:
    """The grace in which such a job may come back counts from its end, not from the retry's first look."""
    script = f"""
    [ ${{SLURM_ARRAY_TASK_ID:-0}} = 0 ] || exit 0
    if [ $(ls lost-* | wc -l) -lt 3 ]; then touch lost-$SLURM_JOB_ID; {LOSE_NODE.strip()}; fi
    """
    campaign = Campaign(system, job_of(workdir, script, **fields), Escalation.parse({"node_failure": {"max": 1}}))
    assert (await run(campaign, first_attempt=True)).problem
    assert (await run(campaign)).problem
    assert (await run(campaign)).succeeded


async def test_a_retry_goes_on_with_what_the_policy_says(system: System, workdir: Path) -> None:
    """The worker has died before it has seen how the job ended."""
    script = "if [ $n = 1 ]; then sleep 60; fi\n"
    campaign = Campaign(system, job_of(workdir, script, time_limit="00:00:01"), Escalation.parse(POLICY))
    job = await campaign.submit(KEY, first_attempt=True)
    await lifecycle.wait(system, job, poll_interval=0.2)
    result = await run(campaign)
    assert result.course is not None
    assert (result.succeeded, result.course.time_limit) == (True, "00:00:20")


@pytest.mark.parametrize("request_name", ["symlink", "submit_job"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_kill_between_two_jobs_continues_the_same_campaign(
    system: System, workdir: Path, monkeypatch: pytest.MonkeyPatch, request_name: str, after: bool
) -> None:
    spec = job_of(workdir, f"if [ $n -lt 3 ]; then {LOSE_NODE.strip()}; fi\n")
    campaign = Campaign(system, spec, Escalation.parse(POLICY))
    job = await campaign.submit(KEY, first_attempt=True)
    result = await lifecycle.wait(system, job, poll_interval=0.2)
    send = getattr(System, request_name)

    async def killed(*args: Any, **kwargs: Any) -> None:
        if after:
            await send(*args, **kwargs)
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(System, request_name, killed)
        with pytest.raises(asyncio.CancelledError):
            await campaign.follow(job, result)
    # A triggerer begins with the first job again, a worker with what the claims say.
    following = await campaign.follow(job, result)
    assert isinstance(following, Job)
    result = await run(campaign)
    assert result.succeeded
    assert result.course is not None
    assert [one.cause for one in result.course.earlier_jobs] == ["node_failure", "node_failure"]
    assert len(jobs_in(workdir)) == 3


async def test_no_job_follows_what_was_cancelled(system: System, workdir: Path) -> None:
    campaign = Campaign(system, job_of(workdir, LOSE_NODE), Escalation.parse(POLICY))
    job = await campaign.submit(KEY, first_attempt=True)
    result = await lifecycle.wait(system, job, poll_interval=0.2)
    await lifecycle.cancel(system, job)
    with pytest.raises(JobWithdrawn):
        await campaign.follow(job, result)
    assert len(jobs_in(workdir)) == 1


async def test_a_script_on_the_cluster_is_read(system: System, workdir: Path) -> None:
    (workdir / "job.sh").write_text(COUNT.replace("\n", "\n#SBATCH --time=00:00:01\n", 1) + "[ $n = 2 ] || sleep 60\n")
    spec = JobSpec(working_dir=str(workdir), script_path=f"{workdir}/job.sh")
    policy = {"time_limit": POLICY["time_limit"]}
    result = await run(Campaign(system, spec, Escalation.parse(policy)), first_attempt=True)
    assert result.course is not None
    assert (result.succeeded, result.course.time_limit) == (True, "00:00:20")
    with pytest.raises(InvalidJobSpec, match="memory: missing"):
        await Campaign(system, spec, Escalation.parse(POLICY)).submit(ClaimKey("other"), first_attempt=True)


async def test_the_schedulers_refusal_of_more_is_told(system: System, workdir: Path, f7t: LocalFirecREST) -> None:
    policy = Escalation.parse({"node_failure": {"max": 1}})
    campaign = Campaign(system, job_of(workdir, LOSE_NODE), policy)
    job = await campaign.submit(KEY, first_attempt=True)
    result = await lifecycle.wait(system, job, poll_interval=0.2)
    f7t.faults.set({"rules": [{"fault": "sbatch_error", "words": "Memory specification can not be satisfied"}]})
    try:
        with pytest.raises(SubmissionRejected, match="Memory specification"):
            await campaign.follow(job, result)
    finally:
        f7t.faults.clear()
