"""One payload for a task, however often and by whom it is tried, cleared or ended."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred
from airflow.sdk.execution_time.comms import DeadlockImminentError

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.job_records import JobRecord
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core.errors import JobFailed, JobWithdrawn
from firecrest_core.states import JobState

# Each payload that runs adds a line; it goes on until somebody lets it.
COUNTED = """#!/bin/bash
#SBATCH --job-name=counted
echo $SLURM_JOB_ID >> runs
until [ -e go ]; do sleep 0.05; done
exit $(cat go)
"""


@pytest.fixture
def make(workdir: Path) -> Callable[..., FirecRESTSubmitOperator]:
    def make(**more: Any) -> FirecRESTSubmitOperator:
        more = {"working_dir": str(workdir)} | more
        return FirecRESTSubmitOperator(task_id="job", script=COUNTED, poll_interval=0.2, **more)

    return make


@pytest.fixture
def crash(ti: Any, workdir: Path, make: Callable[..., FirecRESTSubmitOperator]) -> Callable[..., str]:
    """Begin a try that is lost once its job runs; return the job's id."""

    def crash(ti: Any = ti) -> str:
        with pytest.raises(TaskDeferred):
            make().execute({"ti": ti, "task_state_store": ti.state_store})
        deadline = time.monotonic() + 60
        while ti.pushed["job_id"] not in runs(workdir):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return ti.pushed["job_id"]

    return crash


def let_go(workdir: Path, exit_code: int = 0) -> None:
    (workdir / "go").write_text(str(exit_code))


def runs(workdir: Path) -> list[str]:
    return (workdir / "runs").read_text().split() if (workdir / "runs").exists() else []


def test_a_retry_goes_on_with_the_job_that_is_alive(connected, workdir, make, crash, run_task, task_log) -> None:
    first = crash()
    assert f"Job {first} (counted) was submitted to {connected.system}, in {workdir}." in task_log()
    let_go(workdir)
    result = run_task(make).result
    log = task_log()
    assert log.count("was submitted to") == 1
    assert f"Job {first} (counted) is there already, on {connected.system}, in {workdir}: going on with it." in log
    assert result["job_id"] == first
    assert result["name"] == "counted"
    assert runs(workdir) == [first]


def test_a_retry_returns_the_result_of_a_job_that_ended_well(connected, workdir, make, crash, run_task) -> None:
    first = crash()
    let_go(workdir)
    FirecRESTHook().wait_for_job(first, poll_interval=0.2)
    assert run_task(make).result["job_id"] == first
    assert runs(workdir) == [first]


def test_a_retry_runs_again_what_has_failed(connected, workdir, make, run_task) -> None:
    let_go(workdir, 3)
    with pytest.raises(JobFailed, match="exit code 3"):
        run_task(make)
    let_go(workdir)
    result = run_task(make).result
    assert runs(workdir)[-1] == result["job_id"]
    assert len(runs(workdir)) == 2


def test_a_clear_cancels_the_job_of_the_run_before(connected, workdir, make, crash, ti, run_task) -> None:
    first = crash()
    ti.max_tries += 1  # as Airflow counts a clear
    second = crash()
    assert second != first
    assert FirecRESTHook().wait_for_job(first, poll_interval=0.2, check=False).state is JobState.CANCELLED
    let_go(workdir)
    assert run_task(make).result["job_id"] == second


def test_a_clear_that_only_the_state_store_knows_of(connected, workdir, make, crash, ti, run_task) -> None:
    """As the reconciler notes it when a task was cleared and its scheduler was lost."""
    first = crash()
    for key, value in list(ti.state_store.items()):
        ti.state_store[key] = json.dumps(json.loads(value) | {"max_tries": None})
    second = crash()
    assert second != first
    assert FirecRESTHook().wait_for_job(first, poll_interval=0.2, check=False).state is JobState.CANCELLED
    let_go(workdir)
    assert run_task(make).result["job_id"] == second


def test_a_clear_that_was_lost_half_way_is_made_good(connected, workdir, make, crash, ti, monkeypatch) -> None:
    from firecrest_core import lifecycle

    first = crash()
    ti.max_tries += 1

    async def die(*_: Any) -> None:
        raise RuntimeError("the worker is gone")

    with monkeypatch.context() as lost, pytest.raises(RuntimeError):
        lost.setattr(lifecycle, "cancel_and_wait", die)
        make().execute({"ti": ti, "task_state_store": ti.state_store})
    second = crash()
    assert FirecRESTHook().wait_for_job(first, poll_interval=0.2, check=False).state is JobState.CANCELLED
    FirecRESTHook().cancel_job(second)


def test_deployments_with_equal_run_ids_do_not_meet(connected, workdir, crash, ti) -> None:
    other = type(ti)()
    assert (other.run_id, other.task_id) == (ti.run_id, ti.task_id)
    jobs = {crash(ti), crash(other)}
    assert len(jobs) == 2
    let_go(workdir)
    for job in jobs:
        assert FirecRESTHook().wait_for_job(job, poll_interval=0.2).succeeded
    assert set(runs(workdir)) == jobs


def test_a_task_that_was_ended_before_its_job_had_an_id(connected, workdir, make, ti, monkeypatch) -> None:
    """A person ends the task while the submission is under way: a job that still arrives runs nothing."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    from firecrest_core.api.client import System

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {"run": {"task": "failed"}})
    task, post = make(), System.submit_job

    async def submit_job(system: System, *arguments: Any, **more: Any) -> str:
        task.on_kill()
        return await post(system, *arguments, **more)

    monkeypatch.setattr(System, "submit_job", submit_job)
    let_go(workdir)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({"ti": ti, "task_state_store": ti.state_store})
    result = FirecRESTHook().wait_for_job(deferred.value.trigger.job["job_id"], poll_interval=0.2, check=False)
    assert result.job_id
    assert runs(workdir) == []


def test_a_cancelled_task_stays_cancelled_for_a_late_retry(connected, workdir, make, crash, ti) -> None:
    from firecrest_core import lifecycle
    from firecrest_core.jobs.job import Job

    task = make()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({"ti": ti, "task_state_store": ti.state_store})

    async def cancel() -> None:
        async with task.hook.client() as client:
            job = Job.from_dict(json.loads(json.dumps(deferred.value.trigger.job)))
            await lifecycle.cancel(client.system(job.system), job)

    task.hook.run(cancel())
    FirecRESTHook().wait_for_job(ti.pushed["job_id"], poll_interval=0.2, check=False)
    with pytest.raises(JobWithdrawn):
        make().execute({"ti": ti, "task_state_store": ti.state_store})


def test_without_exactly_once_each_try_submits(connected, workdir, make, ti) -> None:
    ids = set()
    for _ in range(2):
        with pytest.raises(TaskDeferred):
            make(exactly_once=False).execute({"ti": ti, "task_state_store": ti.state_store})
        ids.add(ti.pushed["job_id"])
    assert len(ids) == 2
    assert not (workdir / ".firecrest").exists()
    let_go(workdir)


def test_the_event_of_an_earlier_runs_trigger(connected, workdir, make, ti, first_event) -> None:
    """SQLite gives the id of a removed trigger to the next one, so the old one's event can reach the new try."""
    deferrals = []
    for _ in range(2):
        with pytest.raises(TaskDeferred) as deferred:
            make().execute({"ti": ti, "task_state_store": ti.state_store})
        deferrals.append(deferred.value)
        ti.max_tries += 1
    old, new = deferrals
    stale = asyncio.run(first_event(old.trigger))
    assert stale["result"]["state"] == "CANCELLED"
    with pytest.raises(TaskDeferred) as again:
        make().execute_complete({"ti": ti, "task_state_store": ti.state_store}, stale, **new.kwargs)
    assert again.value.trigger.job == new.trigger.job
    let_go(workdir)
    event = asyncio.run(first_event(again.value.trigger))
    context = {"ti": ti, "task_state_store": ti.state_store}
    assert make().execute_complete(context, event, **again.value.kwargs)["state"] == "COMPLETED"


def test_a_retry_goes_on_where_the_first_try_submitted(connected, workdir, make, crash, run_task, task_log) -> None:
    """A working directory with the number of the try in it, or an edited DAG, must not double the job."""
    first = crash()
    other = workdir / "try-2"
    other.mkdir()
    let_go(workdir)
    result = run_task(lambda: make(working_dir=str(other))).result
    assert (result["job_id"], result["working_directory"]) == (first, str(workdir))
    assert "Clear the task to run it on" in task_log()
    assert runs(workdir) == [first]
    assert runs(other) == []


def test_a_cleared_task_cancels_its_job_where_it_was_submitted(connected, workdir, make, crash, ti, run_task) -> None:
    first = crash()
    other = workdir / "elsewhere"
    other.mkdir()
    ti.max_tries += 1
    let_go(other)
    result = run_task(lambda: make(working_dir=str(other))).result
    assert FirecRESTHook().wait_for_job(first, poll_interval=0.2, check=False).state is JobState.CANCELLED
    assert (result["state"], result["working_directory"]) == ("COMPLETED", str(other))
    assert runs(other) == [result["job_id"]]


@pytest.mark.parametrize("cleared", [True, False])
def test_a_trigger_that_is_killed_late(connected, workdir, make, ti, monkeypatch, cleared) -> None:
    """By then another try may be waiting: one of the same run for this very job, or one of a newer run for its own."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    deferrals = []
    for _ in range(2):
        with pytest.raises(TaskDeferred) as deferred:
            make().execute({"ti": ti, "task_state_store": ti.state_store})
        deferrals.append(deferred.value.trigger)
        ti.max_tries += cleared
    late, newest = deferrals
    late.task_instance = ti
    # Even if the newer run has ended, its job is not the late trigger's to cancel.
    state = "failed" if cleared else "deferred"
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {"run": {"task": state}})
    asyncio.run(late.on_kill())
    assert (late.job["job_id"] == newest.job["job_id"]) is not cleared
    let_go(workdir)
    assert FirecRESTHook().wait_for_job(newest.job["job_id"], poll_interval=0.2).succeeded
    assert runs(workdir)[-1] == newest.job["job_id"]


def test_a_cleared_task_whose_old_directory_is_gone(connected, workdir, make, crash, ti, run_task) -> None:
    first = crash()
    let_go(workdir)
    FirecRESTHook().wait_for_job(first, poll_interval=0.2)
    other = workdir.with_name(workdir.name + "-new")
    other.mkdir()
    shutil.rmtree(workdir)
    ti.max_tries += 1
    let_go(other)
    assert run_task(lambda: make(working_dir=str(other))).result["state"] == "COMPLETED"
    assert not workdir.exists()


def test_a_clear_after_retries_were_lowered_in_the_dag(connected, workdir, crash, ti) -> None:
    """Airflow then counts max_tries anew from the tries made, which may be fewer than the old limit."""
    ti.max_tries = 3
    first = crash()
    ti.max_tries = 1
    second = crash()
    assert second != first
    assert FirecRESTHook().wait_for_job(first, poll_interval=0.2, check=False).state is JobState.CANCELLED
    let_go(workdir)
    assert FirecRESTHook().wait_for_job(second, poll_interval=0.2).succeeded
    assert runs(workdir)[-1] == second


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_retry_after_execution_timeout_runs_the_job_again(connected, workdir, make, ti, run_task, deferrable) -> None:
    ti.max_tries = 1
    with pytest.raises(AirflowTaskTimeout):
        run_task(lambda: make(deferrable=deferrable, execution_timeout=timedelta(seconds=2)))
    ti.try_number = 2
    let_go(workdir)
    result = run_task(make).result
    assert result["state"] == "COMPLETED"
    assert runs(workdir)[-1] == result["job_id"]


def test_the_jobs_of_a_task_are_recorded_and_whether_they_have_ended(connected, workdir, make, ti, run_task) -> None:
    context = {"ti": ti, "task_state_store": ti.state_store}
    with pytest.raises(TaskDeferred):
        make().execute(context)
    record = JobRecord.read(context)
    assert [job["job_id"] for job in record.jobs] == [ti.pushed["job_id"]]
    let_go(workdir)
    run_task(make)
    ended = JobRecord.read(context)
    assert ended.ended
    assert [(job["job_id"], job["key"]) for job in ended.jobs] == [(job["job_id"], job["key"]) for job in record.jobs]


@pytest.mark.parametrize("error", [RuntimeError("no supervisor"), DeadlockImminentError("a question")])
def test_a_worker_that_may_not_ask_leaves_its_job(connected, workdir, make, ti, monkeypatch, error) -> None:
    """Airflow refuses a question in a signal handler while another one is under way."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def refuse(**_: Any) -> None:
        raise error

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", refuse)
    ti.try_number = ti.max_tries + 1
    context = {"ti": ti, "task_state_store": ti.state_store}
    task = make()
    with pytest.raises(TaskDeferred):
        task.execute(context)
    task.on_kill()
    assert JobRecord.read(context) is not None
    let_go(workdir)
    assert FirecRESTHook().wait_for_job(ti.pushed["job_id"], poll_interval=0.2).succeeded


@pytest.mark.parametrize(
    ("state", "try_number", "kept"), [("running", 1, True), ("running", 2, False), ("restarting", 2, True)]
)
def test_a_job_outlives_a_worker_that_is_stopped_in_the_last_try(
    connected, workdir, make, ti, monkeypatch, state, try_number, kept
) -> None:
    """If a try follows, or a run after a clear, the job stays the task's; else the failed task must not cancel it."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {"run": {"task": state}})
    ti.try_number, ti.max_tries = try_number, 1
    context = {"ti": ti, "task_state_store": ti.state_store}
    task = make()
    with pytest.raises(TaskDeferred):
        task.execute(context)
    task.on_kill()
    assert (JobRecord.read(context) is not None) is kept
    let_go(workdir)
    assert FirecRESTHook().wait_for_job(ti.pushed["job_id"], poll_interval=0.2).succeeded
