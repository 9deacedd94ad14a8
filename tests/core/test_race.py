"""Races on the embedded server: several shapes of one job in several queues, of which one runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.api.http import HTTPSession
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.connection import Connection
from firecrest_core.errors import JobStuck, SubmissionRejected, WaitTimedOut
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.jobs.status import read_status
from firecrest_core.race import winner
from firecrest_core.result import JobResult
from firecrest_core.spec.alternatives import Alternatives
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST, Plan, Settings
from firecrest_local.settings import Partition

KEY = ClaimKey("race")
BOTH = Alternatives.parse([{"partition": "full"}, {"partition": "free"}])
WORK = "#!/bin/bash\necho $SLURM_JOB_ID >> jobs\n"


@pytest.fixture(scope="module")
def f7t(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    settings = Settings(
        root=tmp_path_factory.mktemp("cluster"),
        partitions=(Partition("full", cores=1), Partition("free", cores=1), Partition("brief", max_time=60, cores=1)),
        accounting_lag=0.0,
        kill_wait=0.3,
        faults=Plan(),
    )
    with LocalFirecREST(settings) as server:
        yield server


@pytest.fixture
async def system(f7t: LocalFirecREST) -> AsyncIterator[System]:
    async with FirecRESTClient(Connection.from_environment(f7t.environ)) as client:
        yield client.system()


@pytest.fixture
def spec(workdir: Path) -> JobSpec:
    return JobSpec(working_dir=str(workdir), script=WORK, time_limit=5)


@pytest.fixture
async def occupy(system: System, workdir: Path) -> AsyncIterator[Callable[..., Any]]:
    """Fill partitions with jobs of somebody else until the test ends."""
    jobs: list[Job] = []

    async def occupy(*partitions: str) -> list[Job]:
        for partition in partitions:
            job = JobSpec(working_dir=str(workdir), command="sleep 600", partition=partition, time_limit=30)
            jobs.append(await lifecycle.submit(system, job))
        while {(await read_status(system, job)).state for job in jobs} != {JobState.RUNNING}:
            await asyncio.sleep(0.05)
        return jobs

    yield occupy
    for job in jobs:
        await lifecycle.cancel_attempt(system, job)


async def submit(system: System, spec: JobSpec, alternatives: Alternatives = BOTH, **how: Any) -> Job:
    return await lifecycle.submit(system, spec, KEY, alternatives=alternatives, **how)


async def race(system: System, spec: JobSpec, lines: list[str] | None = None, **how: Any) -> JobResult:
    job = await submit(system, spec, **how)
    return await lifecycle.wait(system, job, poll_interval=0.2, on_message=None if lines is None else lines.append)


def ran(spec: JobSpec) -> list[str]:
    """The jobs that have run the payload."""
    return Path(spec.working_dir, "jobs").read_text().split()


async def live(system: System, spec: JobSpec) -> list[str]:
    jobs = await ClaimDirectory(system, spec.working_dir, KEY.identity).live()
    return [job_id for ids in jobs.values() for job_id in ids]


async def test_where_one_queue_is_full_the_other_one_runs_it(system: System, spec: JobSpec, occupy: Any) -> None:
    await occupy("full")
    lines: list[str] = []
    job = await submit(system, spec, first_attempt=True)
    (other,) = job.rivals
    result = await lifecycle.wait(system, job, poll_interval=0.2, on_message=lines.append)
    assert (result.succeeded, result.job_id, result.partition) == (True, other, "free")
    assert ran(spec) == [other]
    assert (await read_status(system, Job(system=job.system, job_id=job.job_id))).state is JobState.CANCELLED
    (told,) = [line for line in lines if "was the first to begin" in line]
    assert told.startswith(f"Job {other} (job) was")
    assert told.endswith(f"so it runs, and job {job.job_id} is cancelled.")


async def test_where_both_are_free_one_runs(system: System, spec: JobSpec) -> None:
    result = await race(system, spec, first_attempt=True)
    assert (result.succeeded, ran(spec)) == (True, [result.job_id])
    assert not await live(system, spec)


async def test_one_that_waits_again_finds_the_same(system: System, spec: JobSpec) -> None:
    job = await submit(system, spec, first_attempt=True)
    first = await lifecycle.wait(system, job, poll_interval=0.2)
    assert (await lifecycle.wait(system, job, poll_interval=0.2)).job_id == first.job_id
    assert (await submit(system, spec)).job_id == first.job_id
    assert ran(spec) == [first.job_id]


async def test_a_failed_winner_is_raced_for_again(system: System, spec: JobSpec, occupy: Any, workdir: Path) -> None:
    await occupy("full")
    spec = JobSpec(working_dir=str(workdir), script=WORK + "[ $(wc -l < jobs) = 2 ]\n", time_limit=5)
    job = await submit(system, spec, first_attempt=True)
    result = await lifecycle.wait(system, job, poll_interval=0.2)
    assert result.state is JobState.FAILED
    again = await submit(system, spec)
    assert (again.key, len(again.rivals)) == (KEY.next_generation(), 1)
    result = await lifecycle.wait(system, again, poll_interval=0.2)
    assert (result.succeeded, result.partition, len(ran(spec))) == (True, "free", 2)


async def test_what_the_scheduler_refuses_keeps_no_other_from_running(
    system: System, spec: JobSpec, caplog: pytest.LogCaptureFixture
) -> None:
    shapes = Alternatives.parse([{"partition": "absent"}, {"partition": "free"}])
    job = await submit(system, spec, shapes, first_attempt=True)
    assert job.rivals == ()
    assert "an alternative was not taken, and the others go on" in caplog.text
    assert "absent" in caplog.text
    assert (await lifecycle.wait(system, job, poll_interval=0.2)).partition == "free"


async def test_where_all_are_refused_the_first_reason_is_told(system: System, spec: JobSpec) -> None:
    shapes = Alternatives.parse([{"partition": "absent"}, {"partition": "free", "account": "nobody"}])
    with pytest.raises(SubmissionRejected, match="partition"):
        await submit(system, spec, shapes, first_attempt=True)
    with pytest.raises(SubmissionRejected, match="partition"):  # a retry
        await submit(system, spec, shapes)


@pytest.mark.parametrize("fail_if_stuck", [False, True])
async def test_one_that_can_never_start_is_told_and_the_others_go_on(
    system: System, spec: JobSpec, fail_if_stuck: bool
) -> None:
    shapes = Alternatives.parse([{"partition": "brief"}, {"partition": "free"}])
    warnings: list[str] = []
    job = await submit(system, spec, shapes, first_attempt=True)
    result = await lifecycle.wait(
        system, job, poll_interval=0.2, on_warning=warnings.append, fail_if_stuck=fail_if_stuck
    )
    assert (result.succeeded, result.partition) == (True, "free")
    assert [line for line in warnings if f"Job {job.job_id} " in line and "can never start" in line] == warnings


async def test_where_none_can_ever_start_it_is_as_for_one_job(system: System, spec: JobSpec) -> None:
    shapes = Alternatives.parse([{"partition": "brief"}, {"partition": "brief", "time_limit": 3}])
    job = await submit(system, spec, shapes, first_attempt=True)
    warnings: list[str] = []
    with pytest.raises(WaitTimedOut):
        await winner(system, job, poll_interval=0.2, timeout=0, on_warning=warnings.append)
    assert len(warnings) == 2
    with pytest.raises(JobStuck, match="can never start"):
        await winner(system, job, poll_interval=0.2, fail_if_stuck=True)
    await lifecycle.cancel(system, job)
    assert not await live(system, spec)
    assert (await lifecycle.wait(system, job, poll_interval=0.2)).state is JobState.CANCELLED


async def test_a_person_may_cancel_one_of_them(system: System, spec: JobSpec, occupy: Any) -> None:
    blockers = await occupy("full", "free")
    job = await submit(system, spec, first_attempt=True)
    waiting = asyncio.create_task(lifecycle.wait(system, job, poll_interval=0.2))
    await system.cancel_job(job.job_id)
    await lifecycle.cancel_attempt(system, blockers[1])
    result = await waiting
    assert (result.succeeded, result.job_id) == (True, job.rivals[0])


async def test_where_a_person_cancels_all_that_is_the_result(system: System, spec: JobSpec, occupy: Any) -> None:
    await occupy("full", "free")
    job = await submit(system, spec, first_attempt=True)
    for job_id in (job.job_id, *job.rivals):
        await system.cancel_job(job_id)
    assert (await lifecycle.wait(system, job, poll_interval=0.2)).state is JobState.CANCELLED


async def test_cancelling_cancels_all(system: System, spec: JobSpec, occupy: Any) -> None:
    await occupy("full", "free")
    job = await submit(system, spec, first_attempt=True)
    assert len(await live(system, spec)) == 2
    await lifecycle.cancel_all(system, [job])
    assert not await live(system, spec)


async def test_what_is_found_alive_is_gone_on_with(system: System, spec: JobSpec, occupy: Any) -> None:
    blockers = await occupy("full", "free")
    job = await submit(system, spec, first_attempt=True)
    found = await submit(system, spec)
    assert {found.job_id, *found.rivals} == {job.job_id, *job.rivals}
    await lifecycle.cancel_attempt(system, blockers[1])
    assert (await lifecycle.wait(system, found, poll_interval=0.2)).partition == "free"


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_lost_answer_leaves_one_payload(system: System, spec: JobSpec, f7t: LocalFirecREST, nth: int) -> None:
    rule = {"fault": "lose_answer", "method": "POST", "route": "/compute/*/jobs", "nth": [nth]}
    f7t.faults.set({"rules": [rule]})
    try:
        result = await race(system, spec, first_attempt=True)
    finally:
        f7t.faults.clear()
    assert (result.succeeded, ran(spec)) == (True, [result.job_id])
    assert not await live(system, spec)


def test_a_kill_at_any_request_leaves_one_payload(
    f7t: LocalFirecREST, spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever submits and waits dies after each of its requests, before it has the answer."""
    send, left = HTTPSession._send_once, 0

    async def run(key: ClaimKey, *, first_attempt: bool) -> JobResult | None:
        """Submit and wait in a process of its own; ``None`` if it dies."""
        dead = asyncio.Event()

        async def killed(*args: Any, **how: Any) -> Any:
            nonlocal left
            left -= 1
            answer = await send(*args, **how)
            if left == 0:
                dead.set()
                raise asyncio.CancelledError
            return answer

        monkeypatch.setattr(HTTPSession, "_send_once", killed)
        async with FirecRESTClient(Connection.from_environment(f7t.environ)) as client:
            living = asyncio.create_task(submit_and_wait(client.system(), spec, key, first_attempt=first_attempt))
            dying = asyncio.create_task(dead.wait())
            await asyncio.wait([living, dying], return_when=asyncio.FIRST_COMPLETED)
            return None if dead.is_set() else await living

    for number in range(1, 30):
        key, left = ClaimKey(f"race-{number}"), number
        if (result := asyncio.run(run(key, first_attempt=True))) is None:
            result = asyncio.run(run(key, first_attempt=False))
            assert result is not None
            assert result.succeeded
            assert ran(spec) == [result.job_id]
            Path(spec.working_dir, "jobs").unlink()
        else:
            return  # it takes fewer requests
    raise AssertionError("a race takes fewer requests")


async def submit_and_wait(system: System, spec: JobSpec, key: ClaimKey, *, first_attempt: bool) -> JobResult:
    job = await lifecycle.submit(system, spec, key, first_attempt=first_attempt, alternatives=BOTH)
    return await lifecycle.wait(system, job, poll_interval=0.1)
