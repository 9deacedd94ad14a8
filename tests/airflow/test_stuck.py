"""A job that can never start: said at once, and given up where the user wants it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowTaskTimeout

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from airflow_provider_firecrest.sensors import FirecRESTJobSensor
from firecrest_core.errors import JobStuck
from firecrest_core.states import JobState

both_ways = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])

# The partition ends at a day.
TOO_LONG = {"command": "touch began", "time_limit": "2-00:00:00"}
REASON = "can never start (PartitionTimeLimit): its time limit is above the partition's. Ask for less"


def submit(workdir: Path, **more: Any) -> Callable[[], FirecRESTSubmitOperator]:
    return lambda: FirecRESTSubmitOperator(
        task_id="job", job=TOO_LONG, working_dir=str(workdir), poll_interval=0.2, **more
    )


def sense(job_id: str, **more: Any) -> Callable[[], FirecRESTJobSensor]:
    return lambda: FirecRESTJobSensor(task_id="s", job_id=job_id, poll_interval=0.2, **more)


@pytest.fixture
def stuck(connected: Any, workdir: Path) -> str:
    return FirecRESTHook().submit_job(TOO_LONG, working_dir=str(workdir)).job_id


def state_of(job_id: str) -> JobState:
    return FirecRESTHook().get_job(job_id).state


@both_ways
def test_the_operator_warns_at_once_and_waits_on(connected, workdir, run_task, ti, task_log, deferrable) -> None:
    with pytest.raises(AirflowTaskTimeout):
        run_task(submit(workdir, deferrable=deferrable, execution_timeout=timedelta(seconds=6)))
    log = task_log().partition("What happened to job")[0]
    (line,) = (line for line in log.splitlines() if "can never start" in line)
    assert f"Job {ti.pushed['job_id']} (dag.task) on {connected.system} {REASON}" in line
    assert "warning" in line.lower()
    assert "To end it, mark the task as failed." in line
    assert log.count("can never start") == 1


@both_ways
def test_the_operator_gives_up_if_wanted_and_cancels(connected, workdir, run_task, ti, task_log, deferrable) -> None:
    with pytest.raises(JobStuck) as given_up:
        run_task(submit(workdir, deferrable=deferrable, fail_if_stuck=True))
    error = given_up.value
    assert isinstance(error, AirflowFailException)  # another try would wait for the same
    assert REASON in str(error)
    assert error.reason == "PartitionTimeLimit"
    assert f"Cancelled job {ti.pushed['job_id']} on {connected.system}." in task_log()
    assert state_of(ti.pushed["job_id"]) is JobState.CANCELLED


@both_ways
def test_the_sensor_gives_up_if_wanted_and_leaves_the_job(stuck, run_task, task_log, deferrable) -> None:
    with pytest.raises(AirflowSensorTimeout):
        run_task(sense(stuck, deferrable=deferrable, timeout=1))
    assert f"Job {stuck}" in task_log()
    with pytest.raises(JobStuck, match="PartitionTimeLimit") as given_up:
        run_task(sense(stuck, deferrable=deferrable, fail_if_stuck=True))
    assert isinstance(given_up.value, AirflowFailException)
    assert state_of(stuck) is JobState.PENDING
    FirecRESTHook().cancel_job(stuck)


def test_the_hook_gives_up_if_wanted(stuck) -> None:
    with pytest.raises(JobStuck, match="PartitionTimeLimit"):
        FirecRESTHook().wait_for_job(stuck, poll_interval=0.2, fail_if_stuck=True)
    assert state_of(stuck) is JobState.PENDING
    FirecRESTHook().cancel_job(stuck)
