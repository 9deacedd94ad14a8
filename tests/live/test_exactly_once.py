"""One payload for a key, on a real file system with real jobs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from firecrest_core import FirecRESTClient, Job, JobResult, JobSpec, JobState, claim, errors, exactly_once, lifecycle
from firecrest_core.claim import Key
from firecrest_core.jobspec import SubmitRequest


@pytest.fixture
def key() -> Key:
    return Key(claim.identity("live", "run", "task", nonce=uuid.uuid4().hex))


@pytest.fixture
def spec(workdir: str, key: Key) -> Callable[..., JobSpec]:
    """A job that writes down that it ran."""

    def spec(command: str = "true", **fields: Any) -> JobSpec:
        script = f"#!/bin/sh\necho ran $SLURM_JOB_NAME $SLURM_JOB_ID >> {key.identity}.log\n{command}\n"
        return JobSpec(**{"working_dir": workdir, "script": script, "name": "once", "time_limit": "5:00", **fields})

    return spec


@pytest.fixture
def payloads(client: FirecRESTClient, system: str, workdir: str, key: Key) -> Any:
    """The ids of the jobs whose payload ran."""

    async def payloads() -> list[str]:
        try:
            text = await client.tail_text(system, f"{workdir}/{key.identity}.log", lines=100)
        except errors.RemotePathNotFound:
            return []
        assert all(line.startswith("ran once ") for line in text.splitlines())
        return [line.split()[2] for line in text.splitlines()]

    return payloads


async def finish(client: FirecRESTClient, job: Job) -> JobResult:
    result = await lifecycle.wait(client, job, poll_interval=2, timeout=300)
    return await lifecycle.settle(client, job, result, poll_interval=2, timeout=300)


async def running(client: FirecRESTClient, job: Job, ran: Callable[[], Any]) -> None:
    for _ in range(120):
        if job.job_id in await ran():
            return
        await asyncio.sleep(0.5)
    raise AssertionError(f"{job} never ran")


async def test_one_submission(client: FirecRESTClient, system: str, spec: Any, key: Key, payloads: Any) -> None:
    job = await lifecycle.start(client, system, spec("echo out"), key, fresh=True)
    assert (job.name, job.key) == ("once", key)
    result = await finish(client, job)
    assert (result.job_id, result.name, result.state) == (job.job_id, "once", JobState.COMPLETED)
    assert await lifecycle.output_tail(client, result) == ("out\n", "")
    assert await payloads() == [job.job_id]


async def test_what_it_costs(
    client: FirecRESTClient,
    system: str,
    spec: Any,
    key: Key,
    payloads: Any,
    workdir: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[str] = []
    send = FirecRESTClient._send_once

    async def counted(self: FirecRESTClient, method: str, endpoint: str, **request: Any) -> Any:
        sent.append(f"{method} {endpoint.replace(job.job_id, '{id}').rpartition(f'/{system}/')[2]}")
        return await send(self, method, endpoint, **request)

    async def cost(work: Awaitable[Any]) -> list[str]:
        sent.clear()
        await work
        return list(sent)

    job = await lifecycle.start(client, system, spec("sleep 4"), replace(key, epoch=2), fresh=True)
    ended = await finish(client, job)
    monkeypatch.setattr(FirecRESTClient, "_send_once", counted)
    assert await cost(lifecycle.settle(client, job, ended)) == ["GET ops/ls"]
    assert await cost(lifecycle.start(client, system, spec(), replace(key, epoch=2))) == ["GET ops/ls"]
    assert await cost(lifecycle.resume(client, system, spec(), replace(key, epoch=2))) == [
        "GET ops/ls",
        "GET jobs/{id}",
    ]
    other = Key(claim.identity("other", key.identity))
    assert await cost(lifecycle.start(client, system, spec(), other, fresh=True)) == ["POST jobs"]
    other = Key(claim.identity("another", key.identity))
    assert await cost(lifecycle.start(client, system, spec(), other)) == ["GET ops/ls", "GET jobs", "POST jobs"]
    assert await cost(lifecycle.cancel_epoch(client, system, workdir, key.identity, 2)) == [
        "GET ops/ls",
        "POST ops/symlink",
        "POST ops/mkdir",
        "POST ops/symlink",
        "DELETE jobs/{id}",
        "GET jobs",
    ]


async def test_many_submissions_at_once(
    client: FirecRESTClient, system: str, spec: Any, key: Key, payloads: Any, workdir: str
) -> None:
    # One output for all: a job that leaves must not empty it.
    job = spec("echo $SLURM_JOB_ID", stdout=f"{key.identity}.out")
    jobs = await asyncio.gather(*(lifecycle.start(client, system, job, key, fresh=True) for _ in range(6)))
    assert len({job.job_id for job in jobs}) == 6
    results = await asyncio.gather(*(finish(client, job) for job in jobs))
    (ran,) = await payloads()
    assert [(result.job_id, result.state) for result in results] == [(ran, JobState.COMPLETED)] * 6
    assert {result.stdout for result in results} == {f"{workdir}/{key.identity}.out"}
    assert await client.tail_text(system, f"{workdir}/{key.identity}.out", lines=100) == f"{ran}\n"
    again = await lifecycle.resume(client, system, job, key)
    assert again.job_id == ran
    assert (await finish(client, again)).succeeded
    assert await payloads() == [ran]


async def test_a_lost_answer(
    client: FirecRESTClient, system: str, spec: Any, key: Key, payloads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts: list[str] = []
    submit = FirecRESTClient.submit_job

    async def lossy(self: FirecRESTClient, system: str, request: SubmitRequest) -> str:
        posts.append(await submit(self, system, request))
        raise errors.SubmissionUnknown("lost")

    monkeypatch.setattr(FirecRESTClient, "submit_job", lossy)
    job = await lifecycle.start(client, system, spec("sleep 5"), key, fresh=True)
    assert job.job_id == posts[0]
    assert (await finish(client, job)).succeeded
    assert await payloads() == posts


async def test_a_held_job_is_found_by_its_name(client: FirecRESTClient, system: str, spec: Any, key: Key) -> None:
    job = await lifecycle.start(client, system, spec(directives=["--hold"]), key, fresh=True)
    other_name = spec(directives=["--hold"], name="renamed meanwhile")
    assert (await lifecycle.start(client, system, other_name, key)).job_id == job.job_id
    await lifecycle.cancel_epoch(client, system, job.working_directory, key.identity, key.epoch)
    assert (await finish(client, job)).state is JobState.CANCELLED


async def test_cancelled_before_anything_was_submitted(
    client: FirecRESTClient, system: str, spec: Any, key: Key, payloads: Any, workdir: str
) -> None:
    for _ in range(2):
        await lifecycle.cancel_epoch(client, system, workdir, key.identity, key.epoch)
    job = await lifecycle.start(client, system, spec(), key, fresh=True)  # its submission was on the way
    result = await finish(client, job)
    assert result.state is JobState.CANCELLED
    with pytest.raises(errors.JobCancelled):
        lifecycle.check(result)
    with pytest.raises(errors.JobWithdrawn, match="cancelled"):
        await lifecycle.start(client, system, spec(), key)
    assert await payloads() == []


async def test_cancelled_while_it_runs(
    client: FirecRESTClient, system: str, spec: Any, key: Key, payloads: Any, workdir: str
) -> None:
    job = await lifecycle.start(client, system, spec("sleep 300"), key, fresh=True)
    await running(client, job, payloads)
    for _ in range(2):
        await lifecycle.cancel_epoch(client, system, workdir, key.identity, key.epoch)
    assert (await finish(client, job)).state is JobState.CANCELLED
    with pytest.raises(errors.JobWithdrawn):
        await lifecycle.resume(client, system, spec(), key)
    assert await payloads() == [job.job_id]


async def test_a_retry_resumes_what_runs_and_repeats_what_failed(
    client: FirecRESTClient, system: str, spec: Any, key: Key, payloads: Any
) -> None:
    first = await lifecycle.start(client, system, spec("sleep 8; exit 3"), key, fresh=True)
    await running(client, first, payloads)
    assert (await lifecycle.resume(client, system, spec(), key)).job_id == first.job_id
    assert (await finish(client, first)).state is JobState.FAILED
    jobs = await asyncio.gather(*(lifecycle.resume(client, system, spec(), key) for _ in range(3)))
    assert {job.key for job in jobs} == {replace(key, generation=1)}
    results = await asyncio.gather(*(finish(client, job) for job in jobs))
    assert len({result.job_id for result in results}) == 1
    assert results[0].succeeded
    assert await payloads() == [first.job_id, results[0].job_id]
    assert (await lifecycle.resume(client, system, spec(), key)).job_id == results[0].job_id


async def test_a_job_that_ends_before_it_begins_keeps_the_claim(
    client: FirecRESTClient, system: str, spec: Any, key: Key, payloads: Any
) -> None:
    job = await lifecycle.start(client, system, spec(directives=["--hold"]), key, fresh=True)
    await lifecycle.cancel(client, system, job.job_id)  # by hand, past the protocol
    assert (await finish(client, job)).state is JobState.CANCELLED
    duplicate = await lifecycle.start(client, system, spec(), key, fresh=True)
    assert (await finish(client, duplicate)).job_id == job.job_id
    assert await payloads() == []
    again = await lifecycle.resume(client, system, spec(), key)
    assert (await finish(client, again)).succeeded
    assert await payloads() == [again.job_id]


async def test_a_new_epoch_ends_the_old_one(
    client: FirecRESTClient, system: str, spec: Any, key: Key, payloads: Any
) -> None:
    old = await lifecycle.start(client, system, spec("sleep 300"), key, fresh=True)
    await running(client, old, payloads)
    queued = await lifecycle.start(client, system, spec(directives=["--hold"]), replace(key, epoch=1), fresh=True)
    newer = replace(key, epoch=4)
    job = await lifecycle.begin_epoch(client, system, spec(), newer, fresh=True)
    assert (await lifecycle.status(client, old)).state is JobState.CANCELLED
    late = await lifecycle.start(client, system, spec(), replace(key, epoch=2), fresh=True)  # it was on the way
    results = [await finish(client, each) for each in (old, queued, late, job)]
    assert [result.state for result in results] == [JobState.CANCELLED] * 3 + [JobState.COMPLETED]
    with pytest.raises(errors.JobWithdrawn, match="newer"):
        await lifecycle.start(client, system, spec(), key)
    assert (await lifecycle.begin_epoch(client, system, spec(), newer)).job_id == job.job_id
    assert await payloads() == [old.job_id, job.job_id]


async def test_an_array(client: FirecRESTClient, system: str, spec: Any, key: Key, payloads: Any) -> None:
    jobs = [await lifecycle.start(client, system, spec(array="0-2"), key, fresh=True) for _ in range(2)]
    results = await asyncio.gather(*(finish(client, job) for job in jobs))
    assert results[0].job_id == results[1].job_id
    assert [(one.index, one.state) for one in results[0].elements] == [(i, JobState.COMPLETED) for i in range(3)]
    assert len(await payloads()) == 3


async def test_a_python_script(client: FirecRESTClient, system: str, spec: Any, key: Key, payloads: Any) -> None:
    text = f"""#!/usr/bin/env python3
import os
with open("{key.identity}.log", "a") as log:
    print("ran", os.environ["SLURM_JOB_NAME"], os.environ["SLURM_JOB_ID"], file=log)
"""
    jobs = [await lifecycle.start(client, system, spec(script=text), key, fresh=True) for _ in range(2)]
    results = [await finish(client, job) for job in jobs]
    assert await payloads() == [results[0].job_id] == [results[1].job_id]


async def test_a_script_on_the_cluster(
    client: FirecRESTClient, system: str, spec: Any, key: Key, payloads: Any, workdir: str
) -> None:
    text = spec().script.replace("\n", f"\n#SBATCH --output={key.identity}-%x-%j.txt\n", 1) + "echo there\n"
    await client.put_small(system, workdir, f"{key.identity}.sh", text.encode())
    there = spec(script=None, script_path=f"{workdir}/{key.identity}.sh")
    jobs = [await lifecycle.start(client, system, there, key, fresh=True) for _ in range(2)]
    results = [await finish(client, job) for job in jobs]
    assert await payloads() == [results[0].job_id] == [results[1].job_id]
    assert results[0].stdout == f"{workdir}/{key.identity}-once-{results[0].job_id}.txt"
    assert (await lifecycle.output_tail(client, results[0]))[0] == "there\n"


async def test_what_cannot_be_run(client: FirecRESTClient, system: str, spec: Any, key: Key, workdir: str) -> None:
    with pytest.raises(errors.RemotePathNotFound, match="working_dir"):
        await lifecycle.start(client, system, spec(working_dir=f"{workdir}/none"), key, fresh=True)
    with pytest.raises(errors.RemotePathNotFound, match="none.sh"):
        await lifecycle.start(client, system, spec(script=None, script_path=f"{workdir}/none.sh"), key, fresh=True)
    await client.put_small(system, workdir, "no-script.sh", b"echo no shebang\n")
    with pytest.raises(errors.InvalidJobSpec, match=r"script_path: .*no-script.sh"):
        await lifecycle.start(client, system, spec(script=None, script_path=f"{workdir}/no-script.sh"), key)
    with pytest.raises(errors.SubmissionRejected, match="partition"):
        await lifecycle.start(client, system, spec(partition="no-such-partition"), key, fresh=True)
    await lifecycle.cancel_epoch(client, system, f"{workdir}/none", key.identity, key.epoch)


async def test_a_claim_that_is_gone(
    client: FirecRESTClient, system: str, spec: Any, key: Key, workdir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exactly_once, "CACHED", 4.0)
    job = await lifecycle.start(client, system, spec(), key, fresh=True)
    result = await lifecycle.wait(client, job, poll_interval=2, timeout=300)
    await client.remove(system, claim.home(workdir, key.identity))
    with pytest.raises(errors.ClaimMissing, match="shows no claim"):
        await lifecycle.settle(client, job, result)
