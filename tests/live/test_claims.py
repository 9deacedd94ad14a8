"""One key runs one payload, on a real file system with real jobs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from firecrest_core import Job, JobResult, JobSpec, JobState, System, errors, lifecycle
from firecrest_core.api.http import HTTPSession
from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.claims import owner, protocol
from firecrest_core.jobs.key import ClaimKey, claim_identity, claims_home
from firecrest_core.jobs.logs import output_tails
from firecrest_core.jobs.status import read_status


@pytest.fixture
def key() -> ClaimKey:
    return ClaimKey(claim_identity("live", "run", "task", nonce=uuid.uuid4().hex))


@pytest.fixture
def spec(workdir: str, key: ClaimKey) -> Callable[..., JobSpec]:
    """A function that makes a job which records in a file that it ran."""

    def spec(command: str = "true", **fields: Any) -> JobSpec:
        script = f"#!/bin/sh\necho ran $SLURM_JOB_NAME $SLURM_JOB_ID >> {key.identity}.log\n{command}\n"
        return JobSpec(**{"working_dir": workdir, "script": script, "name": "once", "time_limit": "5:00", **fields})

    return spec


@pytest.fixture
def payloads(system: System, workdir: str, key: ClaimKey) -> Any:
    """The ids of the jobs whose payload ran."""

    async def payloads() -> list[str]:
        try:
            text = await system.tail(f"{workdir}/{key.identity}.log", lines=100)
        except errors.RemotePathNotFound:
            return []
        assert all(line.startswith("ran once ") for line in text.splitlines())
        return [line.split()[2] for line in text.splitlines()]

    return payloads


async def finish(system: System, job: Job) -> JobResult:
    return await lifecycle.wait(system, job, poll_interval=2, timeout=300)


async def wait_until_running(system: System, job: Job, ran: Callable[[], Any]) -> None:
    for _ in range(120):
        if job.job_id in await ran():
            return
        await asyncio.sleep(0.5)
    raise AssertionError(f"{job} did not run")


async def test_one_submission(system: System, spec: Any, key: ClaimKey, payloads: Any) -> None:
    job = await lifecycle.submit(system, spec("echo out"), key, first_attempt=True)
    assert (job.name, job.key) == ("once", key)
    result = await finish(system, job)
    assert (result.job_id, result.name, result.state) == (job.job_id, "once", JobState.COMPLETED)
    assert await output_tails(system, result) == ("out\n", "")
    assert await payloads() == [job.job_id]


async def test_number_of_requests(
    system: System,
    spec: Any,
    key: ClaimKey,
    payloads: Any,
    workdir: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[str] = []
    request = HTTPSession.request

    async def counted(self: HTTPSession, method: str, url: str, **options: Any) -> Any:
        sent.append(f"{method} {url.replace(job.job_id, '{id}').rpartition(f'/{system}/')[2]}")
        return await request(self, method, url, **options)

    async def cost(work: Awaitable[Any]) -> list[str]:
        sent.clear()
        await work
        return list(sent)

    job = await lifecycle.submit(system, spec("sleep 4"), replace(key, epoch=2), first_attempt=True)
    ended = await finish(system, job)
    monkeypatch.setattr(HTTPSession, "request", counted)
    assert await cost(owner.find_owner(system, job, ended)) == ["GET ops/ls", "GET ops/download"]
    assert await cost(lifecycle.submit(system, spec(), replace(key, epoch=2), resubmit_failed=False)) == ["GET ops/ls"]
    assert await cost(lifecycle.submit(system, spec(), replace(key, epoch=2))) == [
        "GET ops/ls",
        "GET jobs/{id}",
    ]
    other = ClaimKey(claim_identity("other", key.identity))
    assert await cost(lifecycle.submit(system, spec(), other, first_attempt=True)) == ["POST jobs"]
    other = ClaimKey(claim_identity("another", key.identity))
    assert await cost(lifecycle.submit(system, spec(), other, resubmit_failed=False)) == [
        "GET ops/ls",
        "GET jobs",
        "POST jobs",
    ]
    assert await cost(protocol.cancel(system, workdir, key.identity, 2)) == [
        "GET ops/ls",
        "POST ops/symlink",
        "POST ops/mkdir",
        "POST ops/symlink",
        "DELETE jobs/{id}",
        "GET jobs",
    ]


async def test_many_submissions_at_once(system: System, spec: Any, key: ClaimKey, payloads: Any, workdir: str) -> None:
    # All jobs share one output file. A job that leaves because of the claim must not empty it.
    job = spec("echo $SLURM_JOB_ID", stdout=f"{key.identity}.out")
    jobs = await asyncio.gather(*(lifecycle.submit(system, job, key, first_attempt=True) for _ in range(6)))
    assert len({job.job_id for job in jobs}) == 6
    results = await asyncio.gather(*(finish(system, job) for job in jobs))
    (ran,) = await payloads()
    assert [(result.job_id, result.state) for result in results] == [(ran, JobState.COMPLETED)] * 6
    assert {result.stdout for result in results} == {f"{workdir}/{key.identity}.out"}
    assert await system.tail(f"{workdir}/{key.identity}.out", lines=100) == f"{ran}\n"
    retried = await lifecycle.submit(system, job, key)
    assert retried.job_id == ran
    assert (await finish(system, retried)).succeeded
    assert await payloads() == [ran]


async def test_a_lost_answer_of_a_submission(
    system: System, spec: Any, key: ClaimKey, payloads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts: list[str] = []
    submit = System.submit_job

    async def lossy(self: System, request: SubmitRequest, *, name: str) -> str:
        posts.append(await submit(self, request, name=name))
        raise errors.SubmissionUnknown("lost")

    monkeypatch.setattr(System, "submit_job", lossy)
    job = await lifecycle.submit(system, spec("sleep 5"), key, first_attempt=True)
    assert job.job_id == posts[0]
    assert (await finish(system, job)).succeeded
    assert await payloads() == posts


async def test_a_held_job_is_found_by_its_name(system: System, spec: Any, key: ClaimKey) -> None:
    job = await lifecycle.submit(system, spec(directives=["--hold"]), key, first_attempt=True)
    other_name = spec(directives=["--hold"], name="renamed")
    assert (await lifecycle.submit(system, other_name, key, resubmit_failed=False)).job_id == job.job_id
    await protocol.cancel(system, job.working_dir, key.identity, key.epoch)
    assert (await finish(system, job)).state is JobState.CANCELLED


async def test_cancelled_before_the_submission(
    system: System, spec: Any, key: ClaimKey, payloads: Any, workdir: str
) -> None:
    for _ in range(2):
        await protocol.cancel(system, workdir, key.identity, key.epoch)
    # A request that was still on the way.
    job = await lifecycle.submit(system, spec(), key, first_attempt=True)
    result = await finish(system, job)
    assert result.state is JobState.CANCELLED
    with pytest.raises(errors.JobCancelled):
        await lifecycle.raise_for_state(system, result)
    with pytest.raises(errors.JobWithdrawn, match="cancelled"):
        await lifecycle.submit(system, spec(), key, resubmit_failed=False)
    assert await payloads() == []


async def test_cancelled_while_it_runs(system: System, spec: Any, key: ClaimKey, payloads: Any, workdir: str) -> None:
    job = await lifecycle.submit(system, spec("sleep 300"), key, first_attempt=True)
    await wait_until_running(system, job, payloads)
    for _ in range(2):
        await protocol.cancel(system, workdir, key.identity, key.epoch)
    assert (await finish(system, job)).state is JobState.CANCELLED
    with pytest.raises(errors.JobWithdrawn):
        await lifecycle.submit(system, spec(), key)
    assert await payloads() == [job.job_id]


async def test_a_retry_adopts_a_running_job_and_resubmits_a_failed_one(
    system: System, spec: Any, key: ClaimKey, payloads: Any
) -> None:
    first = await lifecycle.submit(system, spec("sleep 8; exit 3"), key, first_attempt=True)
    await wait_until_running(system, first, payloads)
    assert (await lifecycle.submit(system, spec(), key)).job_id == first.job_id
    assert (await finish(system, first)).state is JobState.FAILED
    jobs = await asyncio.gather(*(lifecycle.submit(system, spec(), key) for _ in range(3)))
    assert {job.key for job in jobs} == {replace(key, generation=1)}
    results = await asyncio.gather(*(finish(system, job) for job in jobs))
    assert len({result.job_id for result in results}) == 1
    assert results[0].succeeded
    assert await payloads() == [first.job_id, results[0].job_id]
    assert (await lifecycle.submit(system, spec(), key)).job_id == results[0].job_id


async def test_a_job_that_was_cancelled_before_its_start_keeps_the_claim(
    system: System, spec: Any, key: ClaimKey, payloads: Any
) -> None:
    job = await lifecycle.submit(system, spec(directives=["--hold"]), key, first_attempt=True)
    await system.cancel_job(job.job_id)  # by hand, without a claim
    assert (await finish(system, job)).state is JobState.CANCELLED
    duplicate = await lifecycle.submit(system, spec(), key, first_attempt=True)
    assert (await finish(system, duplicate)).job_id == job.job_id
    assert await payloads() == []
    retried = await lifecycle.submit(system, spec(), key)
    assert (await finish(system, retried)).succeeded
    assert await payloads() == [retried.job_id]


async def test_a_new_epoch_cancels_the_old_one(
    system: System, spec: Any, key: ClaimKey, payloads: Any, workdir: str
) -> None:
    old = await lifecycle.submit(system, spec("sleep 300"), key, first_attempt=True)
    await wait_until_running(system, old, payloads)
    queued = await lifecycle.submit(system, spec(directives=["--hold"]), replace(key, epoch=1), first_attempt=True)
    newer = replace(key, epoch=4)
    await protocol.end_older(system, workdir, newer)
    job = await lifecycle.submit(system, spec(), newer, first_attempt=True)
    assert (await read_status(system, old)).state is JobState.CANCELLED
    # A request of an older epoch that was still on the way.
    late = await lifecycle.submit(system, spec(), replace(key, epoch=2), first_attempt=True)
    results = [await finish(system, each) for each in (old, queued, late, job)]
    assert [result.state for result in results] == [JobState.CANCELLED] * 3 + [JobState.COMPLETED]
    with pytest.raises(errors.JobWithdrawn, match="newer"):
        await lifecycle.submit(system, spec(), key, resubmit_failed=False)
    await protocol.end_older(system, workdir, newer)
    assert (await lifecycle.submit(system, spec(), newer, resubmit_failed=False)).job_id == job.job_id
    assert await payloads() == [old.job_id, job.job_id]


async def test_an_array(system: System, spec: Any, key: ClaimKey, payloads: Any) -> None:
    jobs = [await lifecycle.submit(system, spec(array="0-2"), key, first_attempt=True) for _ in range(2)]
    results = await asyncio.gather(*(finish(system, job) for job in jobs))
    assert results[0].job_id == results[1].job_id
    assert [(one.index, one.state) for one in results[0].elements] == [(i, JobState.COMPLETED) for i in range(3)]
    assert len(await payloads()) == 3


async def test_a_python_script(system: System, spec: Any, key: ClaimKey, payloads: Any) -> None:
    text = f"""#!/usr/bin/env python3
import os
with open("{key.identity}.log", "a") as log:
    print("ran", os.environ["SLURM_JOB_NAME"], os.environ["SLURM_JOB_ID"], file=log)
"""
    jobs = [await lifecycle.submit(system, spec(script=text), key, first_attempt=True) for _ in range(2)]
    results = [await finish(system, job) for job in jobs]
    assert await payloads() == [results[0].job_id] == [results[1].job_id]


async def test_a_script_on_the_cluster(system: System, spec: Any, key: ClaimKey, payloads: Any, workdir: str) -> None:
    text = spec().script.replace("\n", f"\n#SBATCH --output={key.identity}-%x-%j.txt\n", 1) + "echo there\n"
    await system.upload_small(workdir, f"{key.identity}.sh", text.encode())
    there = spec(script=None, script_path=f"{workdir}/{key.identity}.sh")
    jobs = [await lifecycle.submit(system, there, key, first_attempt=True) for _ in range(2)]
    results = [await finish(system, job) for job in jobs]
    assert await payloads() == [results[0].job_id] == [results[1].job_id]
    assert results[0].stdout == f"{workdir}/{key.identity}-once-{results[0].job_id}.txt"
    assert (await output_tails(system, results[0]))[0] == "there\n"


async def test_specs_that_cannot_run(system: System, spec: Any, key: ClaimKey, workdir: str) -> None:
    with pytest.raises(errors.RemotePathNotFound, match="working_dir"):
        await lifecycle.submit(system, spec(working_dir=f"{workdir}/none"), key, first_attempt=True)
    with pytest.raises(errors.RemotePathNotFound, match="none.sh"):
        await lifecycle.submit(system, spec(script=None, script_path=f"{workdir}/none.sh"), key, first_attempt=True)
    await system.upload_small(workdir, "no-script.sh", b"echo no shebang\n")
    with pytest.raises(errors.InvalidJobSpec, match=r"script_path: .*no-script.sh"):
        await lifecycle.submit(
            system, spec(script=None, script_path=f"{workdir}/no-script.sh"), key, resubmit_failed=False
        )
    with pytest.raises(errors.SubmissionRejected, match="partition"):
        await lifecycle.submit(system, spec(partition="no-such-partition"), key, first_attempt=True)
    await protocol.cancel(system, f"{workdir}/none", key.identity, key.epoch)


async def test_a_removed_claim_is_reported(
    system: System, spec: Any, key: ClaimKey, workdir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "CACHED", 4.0)
    job = await lifecycle.submit(system, spec(), key, first_attempt=True)
    result = await lifecycle.wait(system, replace(job, key=None), poll_interval=2, timeout=300)
    await system.remove(claims_home(workdir, key.identity))
    with pytest.raises(errors.ClaimMissing, match="shows no claim"):
        await owner.find_owner(system, job, result)
