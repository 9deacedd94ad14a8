"""Waiting for jobs and files that somebody else makes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from firecrest_core import lifecycle
from firecrest_core.errors import (
    JobFailed,
    JobNodeFailure,
    JobNotFound,
    JobStuck,
    RemotePathRefused,
    WaitTimedOut,
)
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from prefect_firecrest import (
    FirecRESTCredentials,
    FirecRESTJobRun,
    afind_job,
    await_for_file,
    await_for_job,
    cancel_job,
    find_job,
    wait_for_file,
    wait_for_job,
)


@pytest.fixture
def start(credentials: FirecRESTCredentials, workdir: Path) -> Callable[..., str]:
    """Submit a job as another program does, and return its id."""

    async def submit(command: str, **fields: Any) -> str:
        async with credentials.get_client() as client:
            spec = JobSpec(command=command, working_dir=str(workdir), **fields)
            return (await lifecycle.submit(client.system(), spec)).job_id

    return lambda *given, **fields: asyncio.run(submit(*given, **fields))


# --- jobs -------------------------------------------------------------------------------------------------


def test_a_job_of_somebody_else_is_waited_for(credentials, start, workdir) -> None:
    @flow
    def others(job_id: str) -> JobResult:
        return wait_for_job(find_job(credentials, job_id, poll_interval=0.2))

    job_id = start("echo done")
    result = others(job_id)
    assert (result.job_id, result.state, result.working_dir) == (job_id, JobState.COMPLETED, str(workdir))
    run = find_job.fn(credentials, job_id)
    assert run.status().state is JobState.COMPLETED
    assert run.log_tail() == "done\n"


async def test_coroutines_wait_for_it_too(credentials, start) -> None:
    @flow
    async def others(job_id: str) -> JobResult:
        return await await_for_job(await afind_job(credentials, job_id, poll_interval=0.2))

    assert (await others(await asyncio.to_thread(start, "true"))).succeeded


def test_a_job_of_somebody_else_that_failed_is_not_run_again(credentials, start, workdir) -> None:
    @flow
    def others(job_id: str) -> JobResult:
        return wait_for_job(find_job(credentials, job_id))

    with pytest.raises(JobFailed, match="ended FAILED, exit code 3"):
        others(start("echo run >> runs; exit 3"))
    assert (workdir / "runs").read_text().split() == ["run"]


def test_a_node_that_a_job_of_somebody_else_lost(credentials, start, workdir, monkeypatch) -> None:
    async def lose_the_node(run: FirecRESTJobRun, *_: Any) -> JobResult:
        return JobResult(job_id=run.job_id, system=run.system, state=JobState.NODE_FAIL)

    run = find_job.fn(credentials, start("echo run >> runs"))
    monkeypatch.setattr(FirecRESTJobRun, "_wait_for_result", lose_the_node)
    with pytest.raises(JobNodeFailure) as failure:
        run.wait_for_completion()
    assert not failure.value.retryable
    assert run.resume() is run


def test_a_job_that_does_not_exist(credentials) -> None:
    with pytest.raises(JobNotFound, match="99999"):
        find_job.fn(credentials, "99999")


def test_an_end_of_the_flow_run_leaves_the_job_of_somebody_else_alone(credentials, start, workdir) -> None:
    @flow(timeout_seconds=3)
    def others(job_id: str) -> JobResult:
        return wait_for_job(find_job(credentials, job_id, poll_interval=0.2))

    job_id = start("until [ -e go ]; do sleep 0.1; done")
    with pytest.raises(TimeoutError):
        others(job_id)
    run = find_job.fn(credentials, job_id, poll_interval=0.2)
    assert run.status().state is JobState.RUNNING
    with pytest.raises(WaitTimedOut):
        run.wait_for_completion(timeout=0.1)
    cancel_job.fn(run)
    assert wait_ended(run) is JobState.CANCELLED


def wait_ended(run: FirecRESTJobRun) -> JobState:
    with pytest.raises(JobFailed) as failure:
        run.wait_for_completion()
    return failure.value.result.state


def test_a_job_that_can_never_start(credentials, start, caplog) -> None:
    run = find_job.fn(credentials, start("true", time_limit="2-00:00:00"), poll_interval=0.2)
    with pytest.raises(WaitTimedOut):
        run.wait_for_completion(timeout=1)
    assert "can never start" in caplog.text
    assert "To end it, cancel the job, and this task fails." in caplog.text
    with pytest.raises(JobStuck, match="PartitionTimeLimit"):
        run.wait_for_completion(fail_if_stuck=True)
    run.cancel()


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["late/one/end.json", "late/**/*.json"])
def test_a_file_that_comes(credentials, workdir, pattern) -> None:
    @flow
    def others() -> bool:
        wait_for_file(credentials, f"{workdir}/{pattern}", poll_interval=0.1)
        return (workdir / "late/one/end.json").exists()

    def come() -> None:
        (workdir / "late/one").mkdir(parents=True)
        (workdir / "late/one/end.json").touch()

    comes = threading.Timer(0.7, come)
    comes.start()
    assert others()


async def test_coroutines_wait_for_files_too(credentials, workdir) -> None:
    (workdir / "here").touch()

    @flow
    async def others() -> None:
        await await_for_file(credentials, str(workdir / "here"))

    await others()


def test_a_file_that_does_not_come(credentials, workdir) -> None:
    with pytest.raises(WaitTimedOut, match=r"never on \S+ does not exist after 0:00:00 \(timeout\)"):
        wait_for_file.fn(credentials, f"{workdir}/never", poll_interval=0.1, timeout=0.3)


def test_a_path_that_can_never_be(credentials) -> None:
    with pytest.raises(RemotePathRefused, match="file systems"):
        wait_for_file.fn(credentials, "/nowhere/at/all")
