"""What ends a job in the process that submitted it: rollbacks, Ctrl-C, and the flow run's state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling
from prefect.transactions import atransaction, transaction

from firecrest_core.errors import JobCancelled
from firecrest_core.states import JobState
from prefect_firecrest import asubmit_job, cancel_jobs, submit_job, wait_for_job
from prefect_firecrest.cancellation import monitor, records
from prefect_firecrest.cancellation.monitor import JobMonitor
from prefect_firecrest.cancellation.policy import read_flow_runs
from prefect_firecrest.cancellation.records import JobRecord, RecordArtifact, RecordWriter
from prefect_firecrest.runtime import runtime
from tests.prefect.real import until

PAYLOAD = "touch began; sleep 600"


class Lost(Exception):
    """What makes a transaction roll back."""


@pytest.fixture
def begun(workdir: Path) -> Callable[[], None]:
    """Wait until the payload runs. A job that finds its claim cancelled before ends COMPLETED, not CANCELLED."""
    return lambda: until((workdir / "began").exists, "the start of the payload")


@pytest.fixture
def state(states_in, workdir) -> Callable[[], JobState | None]:
    """The state of the test's only job."""
    return lambda: states_in(workdir)[0] if states_in(workdir) else None


def test_a_transaction_that_is_rolled_back_cancels_its_job(make, state, begun) -> None:
    @flow
    def rolled_back() -> None:
        with transaction():
            submit_job(make(PAYLOAD))
            begun()
            raise Lost

    with pytest.raises(Lost):
        rolled_back()
    until(lambda: state() is JobState.CANCELLED, "the end of the job")


async def test_an_asynchronous_transaction(make, workdir, credentials) -> None:
    @flow
    async def rolled_back() -> None:
        async with atransaction():
            await asubmit_job(make(PAYLOAD))
            raise Lost

    with pytest.raises(Lost):
        await rolled_back()
    async with credentials.get_client() as client:
        rows = await client.system().get_jobs()
    assert [row.state for row in rows if row.working_dir == str(workdir)] != [JobState.RUNNING]


def test_a_process_that_is_stopped_leaves_its_job_alone(make, state) -> None:
    class Stopped(BaseException):
        """As Prefect's own TerminationSignal."""

    @flow
    def stopped() -> None:
        with transaction():
            run = submit_job(make(PAYLOAD))
            until(lambda: run.status().state is JobState.RUNNING, "the start")
            raise Stopped

    with pytest.raises(Stopped):
        stopped()
    runtime.run(runtime.state(JobMonitor).scan())
    assert state() is JobState.RUNNING


def test_a_script_that_is_interrupted_takes_its_job_with_it(make, state, begun) -> None:
    @flow
    def interrupted() -> None:
        submit_job(make(PAYLOAD))
        begun()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    runtime.run(runtime.state(JobMonitor).scan())
    until(lambda: state() is JobState.CANCELLED, "the end of the job")


@pytest.mark.parametrize("exactly_once", [True, False])
def test_a_script_that_is_cancelled(make, state, begun, exactly_once) -> None:
    """No runner interrupts it: its monitor finds out by itself that the flow run was cancelled."""

    @flow
    def cancelled() -> None:
        job = submit_job(make(PAYLOAD, exactly_once=exactly_once))
        begun()
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(FlowRunContext.get().flow_run.id, Cancelling(), force=True)
        wait_for_job(job)

    with pytest.raises(JobCancelled):
        cancelled()
    assert state() is JobState.CANCELLED


def test_the_hook_cancels_what_is_recorded(make, state, begun, credentials) -> None:
    credentials.save("noted", overwrite=True)

    @flow
    def submitted() -> None:
        submit_job(make(PAYLOAD))
        begun()
        flow_run = FlowRunContext.get().flow_run
        runtime._states.pop(JobMonitor)  # as in the runner's process, which has submitted nothing
        cancel_jobs(None, flow_run, Cancelling())

    submitted()
    until(lambda: state() is JobState.CANCELLED, "the end of the job")


def test_each_api_is_asked_for_its_own_flow_runs(make, state, begun, credentials, monkeypatch) -> None:
    """A process may have flow runs of two APIs, as test harnesses do; one does not know the other's."""
    asked: dict[str, set[UUID]] = {}
    monkeypatch.setattr(monitor, "INTERVAL", 0.1)

    async def read(client, ids) -> dict:
        asked.setdefault(str(client.api_url), set()).update(ids)
        return {} if "another" in str(client.api_url) else await read_flow_runs(client, ids)

    async def watch_one_of_another_api() -> None:
        record = JobRecord(system="local", working_dir="/wd", identity="another-task")
        with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/another/api"}):
            await runtime.state(JobMonitor).watch((another,), credentials.connection(), record)

    runtime._states.pop(JobMonitor, None)
    another = uuid4()
    with monkeypatch.context() as patched:
        patched.setattr(RecordWriter, "write", AsyncMock(return_value=uuid4()))
        runtime.run(watch_one_of_another_api())
    monkeypatch.setattr(monitor, "read_flow_runs", read)
    monkeypatch.setattr(monitor, "cancel_recorded", AsyncMock())

    @flow
    def ours() -> None:
        submit_job(make(PAYLOAD))
        begun()
        flow_run_id = FlowRunContext.get().flow_run.id
        until(lambda: any(flow_run_id in ids for ids in asked.values()), "a scan")

    ours()
    assert state() is JobState.RUNNING
    (other_url,) = [url for url in asked if "another" in url]
    assert asked[other_url] == {another}
    assert all(another not in ids for url, ids in asked.items() if url != other_url)
    runtime._states.pop(JobMonitor, None)


def test_calls_that_are_made_at_once_share_artifacts() -> None:
    flow_runs = (uuid4(),)
    expected = [JobRecord(system="s", working_dir="/w", identity=f"call-{n}") for n in range(200)]

    async def write() -> set[UUID]:
        writer = runtime.state(RecordWriter)
        return set(await asyncio.gather(*(writer.write(flow_runs, record) for record in expected)))

    async def read_and_delete() -> list[RecordArtifact]:
        async with get_client() as client:
            found = [one for one in await records.read(client) if one.flow_runs == flow_runs]
            await records.delete(client, [one.id for one in found] * 2)
            return found

    written = runtime.run(write())
    assert len(written) <= 2
    found = runtime.run(read_and_delete())
    assert {one.id for one in found} == written
    assert {record for one in found for record in one.records} == set(expected)
    assert runtime.run(read_and_delete()) == []
