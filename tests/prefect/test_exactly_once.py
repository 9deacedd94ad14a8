"""One payload for a call, however often and where it is tried; test_server.py kills real processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client, task
from prefect.context import FlowRunContext
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Cancelled, Cancelling
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.transactions import transaction

from firecrest_core.errors import FirecRESTError, JobWithdrawn
from prefect_firecrest import FirecRESTJobRun, run_job, submit_job, wait_for_job

# Each payload that runs adds a line.
COUNTED = "echo $SLURM_JOB_ID >> runs"


class Lost(Exception):
    """What ends a flow run before it is done."""


@pytest.fixture
def runs(workdir: Path) -> Callable[[], list[str]]:
    return lambda: (workdir / "runs").read_text().split() if (workdir / "runs").exists() else []


@pytest.fixture
def again() -> Callable[..., Any]:
    """Run a flow, or the same flow run once more, as Prefect's workers do."""
    ids: list[UUID] = []

    def again(flow: Any) -> Any:
        with get_client(sync_client=True) as client:
            if not ids:
                ids.append(client.create_flow_run(flow).id)
            else:
                client.set_flow_run_state(ids[0], AwaitingRetry(), force=True)  # as the UI's button does
            flow_run = client.read_flow_run(ids[0])
        return run_flow(flow, flow_run=flow_run)

    return again


def test_a_run_that_is_run_again_adopts_its_jobs(make, again, runs) -> None:
    submitted: list[list[str]] = []

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=4))
    def lossy() -> Any:
        jobs = [make(COUNTED), make(COUNTED), make(f"{COUNTED}; true")]
        begun = [*submit_job.map(jobs).result(), jobs[0].trigger()]
        submitted.append(sorted(run.job_id for run in begun))
        if len(submitted) == 1:
            raise Lost
        return [wait_for_job(run) for run in begun]

    with pytest.raises(Lost):
        again(lossy)
    assert all(result.succeeded for result in again(lossy))
    assert submitted[0] == submitted[1]
    assert sorted(runs()) == submitted[0]


def test_only_what_failed_is_run_again(make, again, runs, workdir) -> None:
    @flow
    def half() -> Any:
        good, bad = submit_job(make(COUNTED)), submit_job(make(f"{COUNTED}; [ -e go ]"))
        return wait_for_job(good), wait_for_job(bad)

    with pytest.raises(FirecRESTError, match="FAILED"):
        again(half)
    (workdir / "go").touch()
    good, bad = again(half)
    assert good.job_id == runs()[0]
    assert bad.job_id == runs()[2] != runs()[1]
    assert len(runs()) == 3


def test_a_flow_retries_by_itself(make, runs) -> None:
    seen: list[str] = []

    @flow(retries=1)
    def lossy() -> str:
        seen.append(submit_job(make(COUNTED)).job_id)
        if len(seen) == 1:
            raise Lost
        return wait_for_job(submit_job(make(f"{COUNTED}; true"))).job_id

    lossy()
    assert seen[0] == seen[1]


def test_flows_within_flows(make, again, runs) -> None:
    """What is called in a flow counts with its caller: run again, it may get another id."""
    seen: list[list[str]] = []

    @flow
    def inner() -> str:
        return wait_for_job(submit_job(make(COUNTED))).job_id

    @task
    def relax() -> str:
        return run_job(make(COUNTED)).job_id

    @flow
    def outer() -> None:
        seen.append(sorted([inner(), relax(), inner(), submit_job(make(COUNTED)).job_id]))
        if len(seen) == 1:
            raise Lost

    with pytest.raises(Lost):
        again(outer)
    again(outer)
    assert seen[0] == seen[1]
    assert sorted(runs()) == seen[0]


def test_an_enclosing_task_that_is_retried(make, runs) -> None:
    seen: list[str] = []

    @task(retries=2)
    def relax() -> None:
        run = submit_job(make(COUNTED))
        wait_for_job(run)
        seen.append(run.job_id)
        if len(seen) == 2:
            raise Lost

    @flow
    def own() -> None:
        relax()  # the first of two equal calls
        relax()

    own()
    assert seen[0] != seen[1] == seen[2]
    assert runs() == seen[:2]


def test_a_flow_that_is_retried_in_a_task_that_is_retried(make, runs) -> None:
    seen: list[str] = []

    @flow(retries=1)
    def inner() -> None:
        seen.append(wait_for_job(submit_job(make(COUNTED))).job_id)
        if len(seen) < 4:
            raise Lost

    @task(retries=1)
    def relax() -> None:
        inner()

    @flow
    def outer() -> None:
        relax()

    outer()
    assert len(set(seen)) == 1
    assert runs() == seen[:1]


@pytest.mark.parametrize("fault", ["lose_answer", "timeout_408", "duplicate"])
def test_an_answer_that_is_lost(make, runs, faults, fault) -> None:
    @flow
    def unlucky() -> str:
        return wait_for_job(submit_job(make(COUNTED))).job_id

    faults.set({"rules": [{"fault": fault, "method": "POST", "route": "/compute/{system}/jobs", "first": 1}]})
    assert unlucky() == runs()[0]
    assert len(runs()) == 1


def test_a_run_that_was_cancelled_and_is_wanted_after_all(make, again, runs, workdir) -> None:
    seen: list[FirecRESTJobRun] = []

    @flow
    def cancelled() -> None:
        run = submit_job(make(f"{COUNTED}; until [ -e go ]; do sleep 0.1; done"))
        seen.append(run)
        if len(seen) == 1:
            run.cancel()
            raise Lost
        (workdir / "go").touch()
        wait_for_job(run)

    with pytest.raises(Lost):
        again(cancelled)
    again(cancelled)
    assert seen[0].job_id != seen[1].job_id
    assert seen[1].job_id in runs()


@pytest.mark.parametrize("state", [Cancelling(), Cancelled(), None], ids=["cancelling", "cancelled", "deleted"])
def test_nothing_is_submitted_for_a_run_that_nobody_wants(make, again, runs, state) -> None:
    """A process that is late does not begin anew what a person has ended."""
    refused: list[JobWithdrawn] = []

    @task(retries=1)
    def late() -> None:
        try:
            run = make(f"{COUNTED}; sleep 60").trigger()
        except JobWithdrawn as error:
            refused.append(error)
            return
        run.cancel()
        flow_run_id = FlowRunContext.get().flow_run.id
        with get_client(sync_client=True) as client:
            if state:
                client.set_flow_run_state(flow_run_id, state, force=True)
            else:
                client.delete_flow_run(flow_run_id)
        raise Lost

    @flow
    def ended() -> None:
        late()

    with suppress(Exception):  # Prefect's own word for a run that was ended meanwhile
        again(ended)
    assert len(refused) == 1
    assert len(runs()) <= 1


def test_a_transaction_that_is_rolled_back_gives_its_calls_up(make, runs) -> None:
    seen: list[str] = []

    @flow
    def rolled_back() -> None:
        for _ in range(2):
            try:
                with transaction():
                    seen.append(wait_for_job(submit_job(make(COUNTED))).job_id)
                    if len(seen) == 1:
                        raise Lost
            except Lost:
                pass

    rolled_back()
    assert seen[0] == seen[1]


def test_two_flow_runs_do_not_meet(make, runs) -> None:
    @flow
    def once() -> str:
        return wait_for_job(submit_job(make(COUNTED))).job_id

    assert [once(), once()] == runs()


def test_a_task_without_a_flow(make, runs) -> None:
    tries: list[str] = []

    @task(retries=1)
    def alone() -> None:
        run = make(COUNTED).trigger()
        run.wait_for_completion()
        tries.append(run.job_id)
        if len(tries) == 1:
            raise Lost

    alone()
    alone()
    assert tries[0] == tries[1] != tries[2]
    assert runs() == tries[1:]
