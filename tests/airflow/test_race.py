"""A task whose job waits in several queues at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.module_loading import import_string

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import FirecRESTArrayOperator, FirecRESTSubmitOperator
from firecrest_core.errors import InvalidJobSpec, JobStuck, SubmissionRejected
from firecrest_core.jobs.job import Job
from firecrest_core.states import JobState

pytestmark = pytest.mark.usefixtures("pushed")
both_ways = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])

# The partition debug never starts a job of more than half an hour.
NEVER = {"partition": "debug", "time_limit": 60}


@pytest.fixture
def make(connected: Any, workdir: Path) -> Callable[..., Callable[[], FirecRESTSubmitOperator]]:
    def make(alternatives: Any = (NEVER, {"partition": "normal"}), **more: Any) -> Callable[[], Any]:
        arguments = {"command": "echo $SLURM_JOB_ID >> jobs", "poll_interval": 0.2} | more
        return lambda: FirecRESTSubmitOperator(
            task_id="job", working_dir=str(workdir), alternatives=list(alternatives), **arguments
        )

    return make


@both_ways
def test_the_first_that_begins_runs(make, workdir, run_task, ti, pushed, task_log, deferrable) -> None:
    run = run_task(make(deferrable=deferrable))
    (ran,) = (workdir / "jobs").read_text().split()
    assert (run.result["state"], run.result["job_id"]) == ("COMPLETED", ran)
    assert run.result["partition"] in ("normal", "")  # the accounting may not say it yet
    assert (pushed if deferrable else ti.pushed)["job_id"] == ran
    assert ti.pushed["firecrest_job"]["job_id"] == ran
    assert len(run.deferrals) == deferrable
    log = task_log()
    assert f"Job {ran} (dag.task) was the first to begin" in log
    assert "can never start" in log


def test_a_triggerer_that_is_restarted_finds_the_one_that_runs(make, workdir, ti, first_event) -> None:
    context = {"ti": ti, "task_state_store": ti.state_store}
    with pytest.raises(TaskDeferred) as deferred:
        make()().execute(context)
    path, arguments = json.loads(json.dumps(deferred.value.trigger.serialize()))
    for _ in range(2):  # the second one begins with the same arguments
        trigger = import_string(path)(**arguments)
        trigger.task_instance = ti
        event = asyncio.run(first_event(trigger))
        assert [event["result"]["job_id"]] == (workdir / "jobs").read_text().split()
    result = make()().resume_execution("execute_complete", {"event": event, **deferred.value.kwargs}, context)
    assert result["partition"] in ("normal", "")


def test_a_dry_run_shows_each_of_them(make, workdir, run_task) -> None:
    result = run_task(make(dry_run=True)).result
    assert "--partition=debug" in result["script"]
    assert "--partition=normal" in result["script"]
    with pytest.raises(SubmissionRejected, match="partition: there is no 'absent'"):
        run_task(make([{"partition": "normal"}, {"partition": "absent"}], dry_run=True))


def test_where_none_can_ever_start_the_task_fails_if_wanted(make, run_task) -> None:
    with pytest.raises(JobStuck, match="can never start"):
        run_task(make([NEVER, {**NEVER, "time_limit": 90}], fail_if_stuck=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alternatives": []}, "alternatives: a list of at least one"),
        ({"alternatives": "normal"}, "alternatives: a list of at least one"),
        ({"alternatives": [{"queue": "{{ ds }}"}]}, "alternatives: 1: queue: .*did you mean 'partition'"),
        ({"alternatives": [{"command": "true"}]}, "alternatives: 1: command: all alternatives run the same"),
        ({"alternatives": [{"system": "eiger"}]}, "alternatives: 1: working_dir: None; .*an absolute path there"),
        (
            {"system": "daint", "alternatives": [{}, {"system": "daint", "working_dir": "/wd"}]},
            "alternatives: 2: daint, in /wd, is where the job runs anyway",
        ),
        ({"alternatives": [{}, {"gpus": 3}], "gpus_per_node": 2}, "alternatives: 2: gpus: 3 in all"),
        ({"alternatives": [NEVER], "array": "0-3"}, "alternatives: the elements of an array"),
        ({"alternatives": [NEVER], "exactly_once": False}, "alternatives: .*leave exactly_once on"),
        (
            {"alternatives": [NEVER], "escalate": {"preempted": "wait"}},
            "escalate: it says what follows one job, and alternatives",
        ),
    ],
)
def test_what_cannot_be_right_is_refused_while_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with DAG("d", schedule=None), pytest.raises(InvalidJobSpec, match=words):
        FirecRESTSubmitOperator(task_id="job", command="true", working_dir="/wd", **arguments)


def test_an_array_over_points_has_no_alternatives() -> None:
    with DAG("d", schedule=None), pytest.raises(InvalidJobSpec, match="alternatives: the elements of an array"):
        FirecRESTArrayOperator(task_id="job", command="true", working_dir="/wd", over=[{"A": 1}], alternatives=[NEVER])


@pytest.mark.parametrize(
    "alternatives",
    ["{{ params.shapes }}", [NEVER, {"partition": "{{ params.partition }}", "time_limit": "{{ params.limit }}"}]],
)
def test_what_is_not_known_yet_is_not_refused(alternatives: Any) -> None:
    with DAG("d", schedule=None):
        FirecRESTSubmitOperator(task_id="job", command="true", working_dir="/wd", alternatives=alternatives)


# --- in a function, through the hook ------------------------------------------------------------------


class Crash(Exception):
    """What goes wrong in a function, other than a job."""


@pytest.fixture
def submit(connected: Any, workdir: Path) -> Callable[..., Job]:
    def submit(alternatives: Any = (NEVER, {"partition": "normal"}), **more: Any) -> Job:
        arguments = {"command": "echo $SLURM_JOB_ID >> jobs", "name": "raced"} | more
        return FirecRESTHook().submit_job(working_dir=str(workdir), alternatives=alternatives, **arguments)

    return submit


def wait(job: Job) -> Any:
    return FirecRESTHook().wait_for_job(job, poll_interval=0.2)


def has_been_cancelled(job_id: str) -> bool:
    result = FirecRESTHook().wait_for_job(job_id, poll_interval=0.2, check=False)
    return result.state is JobState.CANCELLED


def test_a_function_waits_for_the_first_that_begins(submit, workdir, run_function, ti, task_log) -> None:
    jobs = []

    def function() -> Any:
        jobs.append(submit())
        return wait(jobs[0])

    result = run_function(function, ti)
    (ran,) = (workdir / "jobs").read_text().split()
    assert (result.state, result.job_id) == (JobState.COMPLETED, ran)
    ((other,),) = [{job.job_id, *job.rivals} - {ran} for job in jobs]
    assert has_been_cancelled(other)
    assert f"Job {ran} (raced) was the first to begin" in task_log()
    (shown,) = (value for key, value in ti.pushed.items() if key.startswith("firecrest_job."))
    assert (shown["job_id"], shown["state"]) == (ran, "COMPLETED")


@pytest.mark.parametrize("is_cleared", [False, True], ids=["retry", "clear"])
def test_another_try_of_a_function(submit, workdir, run_function, ti, is_cleared) -> None:
    first = []

    def crash() -> None:
        first.append(submit([NEVER, {**NEVER, "time_limit": 90}]))
        raise Crash

    ti = replace(ti, max_tries=2)
    with pytest.raises(Crash):
        run_function(crash, ti)
    before = {first[0].job_id, *first[0].rivals}
    again = replace(ti, try_number=2, max_tries=2 + is_cleared)
    if is_cleared:
        assert run_function(lambda: wait(submit()), again).job_id not in before
        assert all(map(has_been_cancelled, before))
    else:
        found = run_function(lambda: submit([NEVER, {**NEVER, "time_limit": 90}]), again)
        assert {found.job_id, *found.rivals} == before
    assert len(before) == 2


def test_outside_of_a_task(submit, workdir) -> None:
    job = submit()
    assert len(job.rivals) == 1
    assert [wait(job).job_id] == (workdir / "jobs").read_text().split()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alternatives": [{"queue": "debug"}]}, "alternatives: 1: queue: .*did you mean 'partition'"),
        ({"array": "0-3"}, "alternatives: the elements of an array"),
        ({"exactly_once": False}, "alternatives: .*leave exactly_once on"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_is_asked(submit, arguments: Any, words: str) -> None:
    with pytest.raises(InvalidJobSpec, match=words):
        submit(**arguments)
