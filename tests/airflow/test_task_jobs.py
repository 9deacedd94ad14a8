"""Jobs that a TaskFlow function submits through the hook are tied to its task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.identity import task_key
from airflow_provider_firecrest.job_records import JobRecord, list_call_records
from airflow_provider_firecrest.job_snapshots import is_signed
from firecrest_core.errors import JobFailed
from firecrest_core.jobs.snapshot import JobSnapshot
from firecrest_core.states import JobState

SCRIPT = """#!/bin/bash
echo $SLURM_JOB_ID >> runs
until [ -e go ]; do sleep 0.1; done
exit $(cat go)
"""


class Crash(Exception):
    """What goes wrong in a function, other than a job."""


@pytest.fixture
def runs(workdir: Path) -> Callable[[], list[str]]:
    """The ids of the jobs that have begun, in their order."""
    return lambda: (workdir / "runs").read_text().split() if (workdir / "runs").exists() else []


@pytest.fixture
def let_go(workdir: Path) -> Callable[..., None]:
    """Let the jobs end."""
    return lambda code=0: (workdir / "go").write_text(f"{code}\n") and None


@pytest.fixture
def submit(workdir: Path) -> Callable[..., Any]:
    """Submit one of the jobs."""
    return lambda **fields: FirecRESTHook().submit_job(
        **{"script": SCRIPT, "working_dir": str(workdir), "name": "counted"} | fields
    )


@pytest.fixture
def task_state(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What Airflow says of the task."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def task_state(state: str) -> None:
        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {"run": {"task": state}})

    return task_state


def wait(job: Any, **how: Any) -> Any:
    return FirecRESTHook().wait_for_job(job, poll_interval=0.2, **how)


def state_of(job: Any) -> JobState:
    return FirecRESTHook().get_job(job.job_id).state


def is_cancelled(job: Any) -> bool:
    return wait(job.job_id, check=False).state is JobState.CANCELLED


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def records(ti: Any) -> list[JobRecord]:
    context: Any = {"ti": ti, "task_state_store": ti.state_store}
    found = [JobRecord.read(context, key) for key in list_call_records(context)]
    return [record for record in found if record is not None]


def crash(run_function: Callable[..., Any], ti: Any, submit: Callable[..., Any], **fields: Any) -> Any:
    """Run a try that fails after it has submitted a job."""
    jobs = []

    def function() -> None:
        jobs.append(submit(**fields))
        raise Crash

    with pytest.raises(Crash):
        run_function(function, ti)
    return jobs[0]


def next_try(ti: Any) -> Any:
    return replace(ti, try_number=ti.try_number + 1)


@pytest.fixture
def ti(ti: Any) -> Any:
    """A task with two retries."""
    return replace(ti, max_tries=2)


def test_a_retry_goes_on_with_the_job_that_is_alive(
    connected, workdir, run_function, ti, submit, runs, let_go, task_log
):
    first = crash(run_function, ti, submit)
    [record] = records(ti)
    assert (record.ended, record.jobs[0]["job_id"]) == (False, first.job_id)
    let_go()
    result = run_function(lambda: wait(submit()), next_try(ti))
    assert result.job_id == first.job_id
    assert runs() == [first.job_id]
    assert [record.ended for record in records(ti)] == [True]
    log = task_log()
    assert f"{first} was submitted to {connected.system}, in {workdir}." in log
    assert f"{first} is there already, on {connected.system}, in {workdir}: going on with it." in log
    assert "COMPLETED" in log


def test_a_retry_runs_again_what_has_failed(connected, run_function, ti, submit, runs, let_go) -> None:
    let_go(3)
    with pytest.raises(JobFailed, match="exit code 3"):
        run_function(lambda: wait(submit()), ti)
    let_go()
    assert run_function(lambda: wait(submit()), next_try(ti)).job_id == runs()[1]
    assert len(runs()) == 2


def test_a_retry_that_asks_for_other_jobs(connected, run_function, ti, submit, runs, let_go) -> None:
    """A loop over files finds one file less, and another one more."""
    let_go()
    names = ["a", "b", "c"]

    def function() -> list[str]:
        results = [wait(submit(environment={"FILE": name})).job_id for name in names]
        if "a" in names:
            raise Crash
        return results

    with pytest.raises(Crash):
        run_function(function, ti)
    first = runs()
    names = ["b", "d", "c"]
    results = run_function(function, next_try(ti))
    assert (results[0], results[2]) == (first[1], first[2])
    assert runs() == [*first, results[1]]


def test_equal_calls_have_jobs_of_their_own(connected, run_function, ti, submit, runs, let_go) -> None:
    let_go()
    first = [crash(run_function, ti, lambda: [submit(), submit()])]
    again = run_function(lambda: [wait(job).job_id for job in (submit(), submit())], next_try(ti))
    assert again == [job.job_id for job in first[0]]
    assert sorted(runs()) == sorted(again)


def test_calls_of_a_coroutine(connected, workdir, run_function, ti, let_go, runs) -> None:
    let_go()
    hook = FirecRESTHook()

    async def function() -> list[str]:
        jobs = await asyncio.gather(
            *(hook.asubmit_job(script=SCRIPT, working_dir=str(workdir)) for _ in range(5)),
        )
        results = await asyncio.gather(*(hook.await_for_job(job, poll_interval=0.2) for job in jobs))
        return [result.job_id for result in results]

    first = run_function(lambda: asyncio.run(function()), ti)
    assert run_function(lambda: asyncio.run(function()), next_try(ti)) == first
    assert sorted(runs()) == sorted(first)
    assert len(set(first)) == 5


def test_a_clear_cancels_the_jobs_of_the_run_before(
    connected, run_function, ti, submit, runs, let_go, task_log
) -> None:
    first = crash(run_function, ti, lambda: [submit(), submit(), submit(name="other")])
    states = []

    def function() -> str:
        job = submit()
        states.extend(state_of(one) for one in first)  # all of them had ended before it was submitted
        let_go()
        return wait(job).job_id

    cleared = replace(ti, max_tries=ti.max_tries + 1, try_number=2)
    assert run_function(function, cleared) not in [job.job_id for job in first]
    assert states == [JobState.CANCELLED] * 3
    assert task_log().count("The task was cleared: cancelling job") == 3
    assert [record.ended for record in records(ti)] == [True]


def test_a_function_that_does_not_wait_leaves_its_job(connected, run_function, ti, submit, let_go, task_state) -> None:
    job = run_function(lambda: submit(), ti)  # Airflow passes what a function's parameters are named after
    assert records(ti) == []
    task_state("success")
    ti.task.on_kill()
    let_go()
    assert wait(job.job_id).succeeded


def test_an_execution_timeout_cancels_the_jobs(connected, run_function, ti, submit, task_state, runs, let_go) -> None:
    task_state("running")
    jobs = []

    def function() -> None:
        jobs.extend([submit(), submit()])
        until(lambda: len(runs()) == 2)
        raise AirflowTaskTimeout  # as Airflow's signal handler does, in whatever the function does then

    with pytest.raises(AirflowTaskTimeout):
        run_function(function, ti, execution_timeout=timedelta(hours=1))
    assert [is_cancelled(job) for job in jobs] == [True, True]
    let_go()
    result = run_function(lambda: wait(submit()), next_try(ti))
    assert result.succeeded
    assert result.job_id not in [job.job_id for job in jobs]


@pytest.mark.parametrize(("state", "ends"), [("failed", True), ("success", True), ("running", False)])
def test_a_worker_that_is_stopped(connected, run_function, ti, submit, task_state, let_go, runs, state, ends) -> None:
    """Airflow calls ``on_kill`` when a person ends the task and when a worker is stopped; its state says which."""
    task_state(state)

    def function() -> Any:
        job = submit()
        until(runs)
        ti.task.on_kill()
        let_go()
        return wait(job, check=False)

    assert run_function(function, ti).state is (JobState.CANCELLED if ends else JobState.COMPLETED)


def test_a_retry_runs_again_what_the_function_has_cancelled(connected, run_function, ti, submit, runs, let_go) -> None:
    def function() -> None:
        job = submit()
        until(runs)
        FirecRESTHook().cancel_job(job)
        raise Crash

    with pytest.raises(Crash):
        run_function(function, ti)
    let_go()
    assert run_function(lambda: wait(submit()), next_try(ti)).job_id == runs()[1]


def test_not_exactly_once(connected, workdir, run_function, ti, submit, runs, let_go) -> None:
    let_go()
    first = crash(run_function, ti, submit, exactly_once=False)
    [record] = records(ti)
    assert record.jobs[0]["key"] is None
    second = run_function(lambda: wait(submit(exactly_once=False)), next_try(ti)).job_id
    assert first.job_id != second
    assert sorted(runs()) == sorted([first.job_id, second])
    assert records(ti) == []
    assert not (workdir / ".firecrest").exists()


def test_elements_of_a_mapped_task_have_jobs_of_their_own(connected, run_function, ti, submit, runs, let_go) -> None:
    let_go()
    others = [replace(ti, map_index=index, state_store=type(ti.state_store)()) for index in range(2)]
    jobs = {run_function(lambda: wait(submit()), one).job_id for one in others}
    assert len(jobs) == 2


# --- what one sees of them ------------------------------------------------------------------------------


def snapshots(ti: Any) -> list[dict[str, Any]]:
    return [value for key, value in ti.pushed.items() if key.startswith("firecrest_job.")]


def test_each_job_is_shown_from_its_submission_to_its_end(connected, run_function, ti, runs, submit, let_go) -> None:
    def two() -> None:
        first, second = submit(name="first"), submit(name="second")
        assert [one["state"] for one in snapshots(ti)] == ["PENDING", "PENDING"]
        until(runs)
        let_go()
        wait(second)
        wait(first)

    run_function(two)
    shown = {one["name"]: one for one in snapshots(ti)}
    assert {name: one["state"] for name, one in shown.items()} == {"first": "COMPLETED", "second": "COMPLETED"}
    assert shown["first"]["exit_code"] == 0
    texts = [text for _, text in shown["second"]["history"]]
    assert "was submitted to" in texts[0]
    assert any("ended COMPLETED" in text for text in texts)
    assert {one["name"] for one in ti.state_store.get("firecrest_ended")} == {"first", "second"}
    connection = FirecRESTHook().connection()
    for one in shown.values():
        assert is_signed(JobSnapshot.from_dict(one), connection, task_key(ti))


def test_a_job_that_failed_is_shown_so(connected, run_function, ti, submit, let_go) -> None:
    let_go(3)
    with pytest.raises(JobFailed):
        run_function(lambda: wait(submit()))
    assert [(one["state"], one["exit_code"]) for one in snapshots(ti)] == [("FAILED", 3)]


def test_a_job_that_cannot_be_shown_runs_on(connected, run_function, ti, submit, let_go, monkeypatch) -> None:
    def refuse(key: str, value: Any) -> None:
        raise RuntimeError("Airflow is away")

    monkeypatch.setattr(ti, "xcom_push", refuse)
    let_go()
    assert run_function(lambda: wait(submit()).state) is JobState.COMPLETED


def test_the_job_of_somebody_else_is_not_shown(connected, run_function, ti, submit, let_go) -> None:
    let_go()
    job_id = submit().job_id
    run_function(lambda: wait(job_id))
    assert snapshots(ti) == []
