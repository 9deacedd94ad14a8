"""Of an array that has failed, only the elements run again that did not end well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.campaign import Campaign
from firecrest_core.connection import Connection
from firecrest_core.elements import ElementGroup
from firecrest_core.escalation import Escalation
from firecrest_core.failed_elements import failed_elements, only_elements
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST

KEY = ClaimKey("array")
# Element N fails until it has been tried N times.
SCRIPT = """#!/bin/bash
echo >> "tries-$SLURM_ARRAY_TASK_ID"
[ "$(wc -l < "tries-$SLURM_ARRAY_TASK_ID")" -ge "$SLURM_ARRAY_TASK_ID" ]
"""


@pytest.fixture
def connection(f7t: LocalFirecREST) -> Connection:
    return Connection.from_environment(f7t.environ)


@pytest.fixture
async def system(connection: Connection) -> AsyncIterator[System]:
    async with FirecRESTClient(connection) as client:
        yield client.system()


def campaign_of(system: System, workdir: Path, **fields: Any) -> Campaign:
    return Campaign(system, JobSpec(**{"working_dir": str(workdir), "script": SCRIPT, "array": "0-3%2"} | fields), None)


async def run(campaign: Campaign, **how: Any) -> JobResult:
    job: Job | JobResult = await campaign.submit(KEY, **how)
    while isinstance(job, Job):
        job = await campaign.follow(job, await lifecycle.wait(campaign.system, job, poll_interval=0.2))
    return job


def tries(workdir: Path) -> list[int]:
    return [(workdir / f"tries-{index}").read_text().count("\n") for index in range(4)]


async def test_a_retry_runs_the_failed_elements_alone(system: System, workdir: Path) -> None:
    campaign = campaign_of(system, workdir)
    first = await run(campaign, first_attempt=True)
    assert (str(first.failed_indices), tries(workdir)) == ("2-3", [1, 1, 1, 1])
    second = await run(campaign)
    assert (str(second.failed_indices), tries(workdir)) == ("3", [1, 1, 2, 2])
    assert second.element_counts == {JobState.COMPLETED: 3, JobState.FAILED: 1}
    third = await run(campaign)
    assert tries(workdir) == [1, 1, 2, 3]
    assert third.succeeded
    assert third.element_counts == {JobState.COMPLETED: 4}
    assert "4 of 4 array elements COMPLETED" in third.summary()
    fourth = await run(campaign)  # the engine asks again, and nothing runs
    assert (fourth.job_id, fourth.element_counts) == (third.job_id, third.element_counts)
    assert tries(workdir) == [1, 1, 2, 3]


@pytest.mark.parametrize(("request_name", "after"), [("symlink", True), ("submit_job", False), ("submit_job", True)])
async def test_a_kill_of_the_retry_repeats_no_element(
    system: System, workdir: Path, monkeypatch: pytest.MonkeyPatch, request_name: str, after: bool
) -> None:
    campaign = campaign_of(system, workdir)
    await run(campaign, first_attempt=True)
    send = getattr(System, request_name)

    async def killed(*args: Any, **kwargs: Any) -> None:
        if after:
            await send(*args, **kwargs)
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(System, request_name, killed)
        with pytest.raises(asyncio.CancelledError):
            await campaign.submit(KEY)
    result = await run(campaign)
    assert (str(result.failed_indices), tries(workdir)) == ("3", [1, 1, 2, 2])
    assert sum(result.element_counts.values()) == 4


async def test_a_policy_gives_more_to_the_elements_that_lacked_it(system: System, workdir: Path) -> None:
    script = '#!/bin/bash\necho >> "tries-$SLURM_ARRAY_TASK_ID"\n[ $SLURM_ARRAY_TASK_ID != 2 ] || [ -e go ] || '
    script += "{ touch go; sleep 60; }\n"
    policy = Escalation.parse({"time_limit": {"time_limit": "x20", "max": "00:01:00"}})
    spec = JobSpec(working_dir=str(workdir), script=script, array="0-3", time_limit="00:00:03")
    result = await run(Campaign(system, spec, policy), first_attempt=True)
    assert tries(workdir) == [1, 1, 2, 1]
    assert result.element_counts == {JobState.COMPLETED: 4}
    assert result.course is not None
    assert result.course.time_limit == "00:01:00"


async def test_the_job_keeps_what_is_done(system: System, workdir: Path) -> None:
    campaign = campaign_of(system, workdir)
    await run(campaign, first_attempt=True)
    job = await campaign.submit(KEY)
    assert (str(job.array_indices), str(job.completed_indices)) == ("2-3", "0-1")
    again = Job.from_dict(job.to_dict())
    assert again == job
    result = await lifecycle.wait(system, again, poll_interval=0.2)
    assert sum(result.element_counts.values()) == 4


def ended(*groups: ElementGroup) -> JobResult:
    return JobResult(job_id="1", system="rig", state=JobState.FAILED, groups=groups)


def group(indices: str, state: JobState, count: int | None = None) -> ElementGroup:
    found = Indices.parse(indices)
    return ElementGroup(state=state, indices=found, count=len(found) if count is None else count)


@pytest.mark.parametrize(
    ("groups", "elements"),
    [
        ([group("0,2", JobState.COMPLETED), group("1,3-4", JobState.FAILED)], "1,3-4"),
        ([group("0", JobState.COMPLETED), group("1", JobState.FAILED), group("2", JobState.CANCELLED)], "1-2"),
        ([group("0-4", JobState.FAILED)], ""),
        ([group("0", JobState.COMPLETED), group("1", JobState.FAILED, count=2)], ""),  # one is not named
        ([], ""),  # on PBS
    ],
)
def test_which_elements_run_again(groups: list[ElementGroup], elements: str) -> None:
    assert failed_elements(ended(*groups)) == elements


@pytest.mark.parametrize(
    ("fields", "elements", "array"),
    [
        ({"array": "0-99%10"}, "3,17", "3,17%10"),
        ({"array": "0-99"}, "3", "3"),
        ({"array": "0-99%10"}, "", "0-99%10"),
        ({"script": "#!/bin/bash\n#SBATCH --array=0-9%2\n"}, "3", "3%2"),
    ],
)
def test_as_many_run_at_a_time_as_before(fields: dict[str, Any], elements: str, array: str) -> None:
    spec = JobSpec(**{"working_dir": "/wd", "script": "#!/bin/bash\n"} | fields)
    assert only_elements(spec, elements).array == array
