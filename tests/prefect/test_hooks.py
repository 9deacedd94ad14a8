"""What ends a job in the process that submitted it: rollbacks, Ctrl-C, and the flow run's state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import uuid4

import pytest
from prefect import flow, get_client
from prefect.context import FlowRunContext
from prefect.states import Cancelling
from prefect.transactions import atransaction, transaction

from firecrest_core.errors import JobCancelled
from firecrest_core.states import JobState
from prefect_firecrest import asubmit_job, cancel_jobs, guard, ledger, submit_job, wait_for_job
from prefect_firecrest.background import run
from prefect_firecrest.ledger import Entry
from tests.prefect.real import until


class Lost(Exception):
    """What makes a transaction roll back."""


@pytest.fixture
def state(states_in, workdir) -> Callable[[], JobState | None]:
    """The state of the test's only job."""
    return lambda: states_in(workdir)[0] if states_in(workdir) else None


def test_a_transaction_that_is_rolled_back_cancels_its_job(make, state) -> None:
    @flow
    def rolled_back() -> None:
        with transaction():
            submit_job(make("sleep 60"))
            raise Lost

    with pytest.raises(Lost):
        rolled_back()
    until(lambda: state() is JobState.CANCELLED, "the end of the job")


async def test_an_asynchronous_transaction(make, workdir, credentials) -> None:
    @flow
    async def rolled_back() -> None:
        async with atransaction():
            await asubmit_job(make("sleep 60"))
            raise Lost

    with pytest.raises(Lost):
        await rolled_back()
    async with credentials.get_client() as client:
        rows = await client.get_jobs(credentials.system)
    assert [row.state for row in rows if row.working_directory == str(workdir)] != [JobState.RUNNING]


def test_a_process_that_is_stopped_leaves_its_job_alone(make, state) -> None:
    class Stopped(BaseException):
        """As Prefect's own TerminationSignal."""

    @flow
    def stopped() -> None:
        with transaction():
            run = submit_job(make("sleep 60"))
            until(lambda: run.status().state is JobState.RUNNING, "the start")
            raise Stopped

    with pytest.raises(Stopped):
        stopped()
    run(guard.look())
    assert state() is JobState.RUNNING


def test_a_script_that_is_interrupted_takes_its_job_with_it(make, state) -> None:
    @flow
    def interrupted() -> None:
        submit_job(make("sleep 60"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    run(guard.look())
    until(lambda: state() is JobState.CANCELLED, "the end of the job")


@pytest.mark.parametrize("exactly_once", [True, False])
def test_a_script_that_is_cancelled(make, state, exactly_once) -> None:
    """No runner interrupts it: it sees by itself that it is not wanted any more."""

    @flow
    def cancelled() -> None:
        job = submit_job(make("sleep 60", exactly_once=exactly_once))
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(FlowRunContext.get().flow_run.id, Cancelling(), force=True)
        wait_for_job(job)

    with pytest.raises(JobCancelled):
        cancelled()
    assert state() is JobState.CANCELLED


def test_the_hook_cancels_what_is_written_down(make, state, credentials) -> None:
    credentials.save("noted", overwrite=True)

    @flow
    def begun() -> None:
        submit_job(make("sleep 60"))
        flow_run = FlowRunContext.get().flow_run
        guard._forget()  # as in the runner's process, which has submitted nothing
        cancel_jobs(None, flow_run, Cancelling())

    begun()
    until(lambda: state() is JobState.CANCELLED, "the end of the job")


def test_calls_that_are_made_at_once_share_notes() -> None:
    flow_runs = (uuid4(),)
    entries = [Entry(system="s", working_dir="/w", identity=f"call-{n}") for n in range(200)]

    async def write() -> set:
        return set(await asyncio.gather(*(ledger.write(flow_runs, entry) for entry in entries)))

    async def read() -> list:
        async with get_client() as client:
            notes = [note for note in await ledger.read(client) if note.flow_runs == flow_runs]
            await ledger.forget(client, [note.id for note in notes] * 2)
            return notes

    written = run(write())
    assert len(written) <= 2
    notes = run(read())
    assert {note.id for note in notes} == written
    assert {entry for note in notes for entry in note.entries} == set(entries)
    assert run(read()) == []
