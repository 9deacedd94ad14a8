"""``timeout_seconds`` of a flow or a task is a limit that a person set: the jobs that wait in it end with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client, task
from prefect.context import FlowRunContext
from prefect.states import Failed, State

from firecrest_core.states import JobState
from prefect_firecrest import FirecRESTJob, arun_job, run_job, submit_job, wait_for_job
from prefect_firecrest.cancellation.monitor import JobMonitor
from prefect_firecrest.cancellation.reconciler import Reconciler
from prefect_firecrest.prefect_internals import took_too_long
from prefect_firecrest.runtime import runtime
from tests.prefect.real import until

# Prefect ends a flow by SIGALRM, which pytest-timeout would take for itself.
pytestmark = pytest.mark.timeout(method="thread")

Make = Callable[..., FirecRESTJob]

# Long enough to submit a job on a busy machine.
TIMEOUT = 12


@pytest.fixture
def all_cancelled(states_in, workdir) -> Callable[[], bool]:
    return lambda: (states := states_in(workdir)) != [] and set(states) == {JobState.CANCELLED}


def direct(job: FirecRESTJob) -> None:
    wait_for_job(submit_job(job))


def submitted(job: FirecRESTJob) -> None:
    wait_for_job.submit(submit_job.submit(job)).result()


def in_a_subflow(job: FirecRESTJob) -> None:
    run_job(job)


@pytest.mark.parametrize("way", [direct, submitted, in_a_subflow])
def test_a_flow_that_takes_too_long_takes_its_jobs_with_it(make: Make, all_cancelled, way) -> None:
    state = flow(way, timeout_seconds=TIMEOUT)(make("sleep 600"), return_state=True)
    assert state.name == "TimedOut"
    until(all_cancelled, "the end of the job")


async def test_a_flow_of_coroutines_that_takes_too_long(make: Make, all_cancelled) -> None:
    state = await arun_job.with_options(timeout_seconds=TIMEOUT)(make("sleep 600"), return_state=True)
    assert state.name == "TimedOut"
    await asyncio.to_thread(until, all_cancelled, "the end of the job")


def test_a_subflow_that_takes_too_long_in_a_flow_that_goes_on(make: Make, all_cancelled) -> None:
    @flow
    def goes_on() -> State[Any]:
        state = run_job.with_options(timeout_seconds=TIMEOUT)(make("sleep 600"), return_state=True)
        until(all_cancelled, "the end of the job")
        return state.name

    assert goes_on() == "TimedOut"


@task
def own(job: FirecRESTJob) -> None:
    job.trigger().wait_for_completion()


def waits_in_a_thread(job: FirecRESTJob) -> State[Any]:
    limited = wait_for_job.with_options(timeout_seconds=TIMEOUT, retries=0)
    return limited.submit(submit_job(job), return_state=True)


def waits_in_a_task_of_its_own(job: FirecRESTJob) -> State[Any]:
    return own.with_options(timeout_seconds=TIMEOUT)(job, return_state=True)


@pytest.mark.parametrize("way", [waits_in_a_thread, waits_in_a_task_of_its_own])
def test_a_task_that_takes_too_long_takes_its_job_with_it(make: Make, all_cancelled, way) -> None:
    @flow
    def goes_on() -> str:
        state = way(make("sleep 600"))
        until(all_cancelled, "the end of the job")
        return state.name

    assert goes_on() == "TimedOut"


def test_a_task_that_is_tried_again_goes_on_with_its_job(make: Make, states_in, workdir) -> None:
    @flow
    def tries_again() -> None:
        run = submit_job(make("until [ -e go ]; do sleep 0.1; done"))
        waiting = wait_for_job.with_options(timeout_seconds=2, retries=50, retry_delay_seconds=0.1).submit(run)
        until(lambda: waiting.state.is_scheduled() or waiting.state.name == "Retrying", "the second try")
        (workdir / "go").touch()
        waiting.result()

    tries_again()
    assert states_in(workdir) == [JobState.COMPLETED]


def sleeps() -> None:
    time.sleep(4)


def test_a_process_that_dies_at_that_moment_leaves_the_job_to_the_reconciler(
    make: Make, credentials, all_cancelled, mocker
) -> None:
    mocker.patch.object(JobMonitor, "scan")  # of the process that died
    credentials.save("timeouts", overwrite=True)

    @flow
    def too_long() -> UUID:
        submit_job(make("sleep 600"))
        return FlowRunContext.get().flow_run.id

    flow_run_id = too_long()
    timed_out = flow(sleeps, timeout_seconds=2)(return_state=True)
    with get_client(sync_client=True) as client:
        state = Failed(name=timed_out.name, message=timed_out.message)
        client.set_flow_run_state(flow_run_id, state, force=True)

    async def reconcile() -> None:
        single = Reconciler(wait=False)
        await single.reconcile_once()
        await single.drain()

    runtime.run(reconcile())
    until(all_cancelled, "the end of the job")


def test_a_failure_by_another_clock_is_no_limit_of_the_run() -> None:
    @flow
    def fails() -> None:
        raise TimeoutError("the database")

    @flow
    def calls_one_that_takes_too_long() -> None:
        flow(sleeps, timeout_seconds=2)()

    for one in (fails, calls_one_that_takes_too_long):
        state = one(return_state=True)
        assert state.is_failed()
        assert not took_too_long(state)
