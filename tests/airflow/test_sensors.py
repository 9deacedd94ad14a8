"""Waiting for jobs and files that somebody else makes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import PokeReturnValue
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.sensors import FirecRESTFileSensor, FirecRESTJobSensor
from airflow_provider_firecrest.triggers.file import FirecRESTFileTrigger
from firecrest_core.errors import ServerUnreachable
from firecrest_core.states import JobState

both_ways = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])


def sense_job(job_id: str, **more: Any) -> Callable[[], FirecRESTJobSensor]:
    return lambda: FirecRESTJobSensor(task_id="s", job_id=job_id, poll_interval=0.2, **more)


def sense_file(path: object, **more: Any) -> Callable[[], FirecRESTFileSensor]:
    return lambda: FirecRESTFileSensor(task_id="s", path=str(path), poll_interval=0.2, **more)


@pytest.fixture
def start(connected, workdir) -> Callable[[str], str]:
    return lambda line: FirecRESTHook().submit_job(command=line, working_dir=str(workdir)).job_id


@both_ways
def test_a_job_that_ends_well(start, workdir, run_task, deferrable) -> None:
    job_id = start("sleep 0.5")
    run = run_task(sense_job(job_id, deferrable=deferrable))
    assert (run.result["job_id"], run.result["state"]) == (job_id, "COMPLETED")
    assert run.result["working_directory"] == str(workdir)
    assert len(run.deferrals) == (1 if deferrable else 0)


@both_ways
def test_a_job_that_fails_is_not_asked_for_again(start, run_task, deferrable) -> None:
    with pytest.raises(AirflowFailException, match="ended FAILED, exit code 3"):
        run_task(sense_job(start("exit 3"), deferrable=deferrable))


@both_ways
def test_a_job_that_does_not_exist(connected, run_task, deferrable) -> None:
    with pytest.raises(AirflowFailException, match="Job not found"):
        run_task(sense_job("99999", deferrable=deferrable))


@both_ways
def test_the_sensors_own_limit_leaves_the_job_alone(start, run_task, deferrable) -> None:
    job_id = start("sleep 60")
    with pytest.raises(AirflowSensorTimeout) as timeout:
        run_task(sense_job(job_id, deferrable=deferrable, timeout=0.5))
    if deferrable:  # in a worker, the words are Airflow's
        assert f"The end of job {job_id} has not come within 0.5 s" in str(timeout.value)
    assert FirecRESTHook().get_job(job_id).state is JobState.RUNNING


def test_soft_fail_skips(start, run_task) -> None:
    with pytest.raises(AirflowSkipException):
        run_task(sense_job(start("sleep 60"), timeout=0.3, soft_fail=True))
    with pytest.raises(AirflowSkipException):
        run_task(sense_job(start("exit 1"), soft_fail=True))


def test_a_person_who_ends_the_sensor_does_not_cancel_the_job(start) -> None:
    job_id = start("sleep 60")
    sensor = sense_job(job_id)()
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    trigger = deferred.value.trigger
    assert trigger.jobs == []
    asyncio.run(trigger.on_kill())
    assert FirecRESTHook().get_job(job_id).state is JobState.RUNNING


def test_reschedule_mode_pokes_once(start, ti) -> None:
    sensor = sense_job(start("sleep 60"), deferrable=False, mode="reschedule")()
    ti.get_first_reschedule_date = lambda context: None
    with pytest.raises(AirflowRescheduleException):
        sensor.execute({"ti": ti, "task_state_store": ti.state_store})


@both_ways
def test_a_file_that_comes(connected, workdir, run_task, deferrable) -> None:
    path = workdir / "late.txt"
    comes = threading.Timer(0.7, path.touch)
    if not deferrable:
        comes.start()
    run = run_task(sense_file(path, deferrable=deferrable), when_deferred=comes.start)
    assert path.exists()
    assert len(run.deferrals) == (1 if deferrable else 0)


@both_ways
def test_a_file_that_a_pattern_matches(connected, workdir, run_task, deferrable) -> None:
    path = workdir / "results" / "one" / "late.json"
    path.parent.mkdir(parents=True)
    comes = threading.Timer(0.7, path.touch)
    if not deferrable:
        comes.start()
    run = run_task(sense_file(workdir / "results/**/*.json", deferrable=deferrable), when_deferred=comes.start)
    assert path.exists()
    assert len(run.deferrals) == (1 if deferrable else 0)


def test_a_file_that_is_there_defers_nothing(connected, workdir, run_task) -> None:
    (workdir / "here").touch()
    assert run_task(sense_file(workdir / "here")).deferrals == []


@both_ways
def test_a_file_that_does_not_come(connected, workdir, run_task, deferrable) -> None:
    with pytest.raises(AirflowSensorTimeout) as timeout:
        run_task(sense_file(workdir / "never", deferrable=deferrable, timeout=0.5))
    if deferrable:
        assert f"{workdir}/never has not come within 0.5 s" in str(timeout.value)


@both_ways
def test_a_path_that_can_never_be(connected, run_task, deferrable) -> None:
    with pytest.raises(AirflowFailException, match="file systems"):
        run_task(sense_file("/nowhere/at/all", deferrable=deferrable))


def test_outages_are_waited_out_and_logged_once(connected, workdir, monkeypatch, first_event, task_log) -> None:
    (workdir / "here").touch()
    calls = 0
    from firecrest_core.api.client import System

    list_files = System.list_files

    async def shaky(self, *args, **kwargs):
        nonlocal calls
        calls += 1
        if calls < 4:
            raise ServerUnreachable("no connection to the site")
        return await list_files(self, *args, **kwargs)

    monkeypatch.setattr(System, "list_files", shaky)
    trigger = FirecRESTFileTrigger(
        system=None, path=str(workdir / "here"), firecrest_conn_id="firecrest_default", poll_interval=0.05
    )
    assert asyncio.run(first_event(trigger)) == {"status": "success", "jobs": []}
    assert task_log().count("Still waiting") == 1


def test_poking_through_an_outage(connected, workdir, monkeypatch, task_log) -> None:
    async def down(self, *args, **kwargs):
        raise ServerUnreachable("no connection to the site")

    from firecrest_core.api.client import System

    monkeypatch.setattr(System, "list_files", down)
    monkeypatch.setattr(System, "get_job", down)
    assert sense_file(workdir / "x")().poke({}) is False
    assert sense_job("1")().poke({}) is False
    assert task_log().count("Still waiting") == 2


def test_a_poke_that_finds_the_end_returns_the_mapping(start) -> None:
    job_id = start("true")
    deadline = time.monotonic() + 5
    poked = False
    while not poked and time.monotonic() < deadline:
        poked = sense_job(job_id)().poke({})
    assert isinstance(poked, PokeReturnValue)
    assert poked.xcom_value["job_id"] == job_id
