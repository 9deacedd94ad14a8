"""In which of Airflow's processes the reconciler runs, and what is said where it cannot."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from airflow_provider_firecrest.cancellation import reconciler, scan
from airflow_provider_firecrest.plugins import listener


@pytest.fixture
def component(mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A component as listeners get it: Airflow says what kind it is only after that."""
    monkeypatch.setattr(listener, "_announced", False)
    monkeypatch.setattr(listener, "SECONDS_TO_FORK", 0.3)
    monkeypatch.delitem(sys.modules, "airflow.jobs.triggerer_job_runner", raising=False)
    mocker.patch("airflow.jobs.job.Job", SimpleNamespace)
    mocker.patch.object(scan, "scan")
    return SimpleNamespace()


@pytest.fixture
def fork(mocker: MockerFixture) -> Callable[[], None]:
    """Do what Python does after a fork."""
    at_fork = mocker.patch("os.register_at_fork")
    return lambda: at_fork.call_args.kwargs["after_in_parent"]()


def starts_triggerer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.jobs.triggerer_job_runner", SimpleNamespace())


def warnings(caplog: pytest.LogCaptureFixture, seconds: float = 0.0) -> list[str]:
    time.sleep(seconds)
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(("job_type", "threads"), [("TriggererJob", 1), ("SchedulerJob", 0), (None, 0)])
def test_the_reconciler_runs_in_the_triggerer_alone(component, fork, mocker, job_type, threads) -> None:
    start = mocker.patch.object(reconciler, "start")
    listener.on_starting(component)
    component.job_type = job_type
    for _ in range(2):
        fork()
    assert start.call_count == threads


def test_a_child_of_the_triggerer_starts_no_reconciler(component, fork, mocker) -> None:
    start = mocker.patch.object(reconciler, "start")
    listener.on_starting(component)
    component.job_type = "TriggererJob"
    mocker.patch("os.getpid", return_value=-1)
    fork()
    assert start.call_count == 0


def test_a_triggerer_that_does_not_fork_warns_once(component, fork, monkeypatch, caplog) -> None:
    starts_triggerer(monkeypatch)
    listener.on_starting(component)
    assert warnings(caplog) == []
    [warning] = warnings(caplog, seconds=1.0)
    assert "does not run in this triggerer: Airflow has not forked" in warning


def test_a_triggerer_that_forks_does_not_warn(component, fork, mocker, monkeypatch, caplog) -> None:
    mocker.patch.object(reconciler, "start")
    starts_triggerer(monkeypatch)
    listener.on_starting(component)
    component.job_type = "TriggererJob"
    fork()
    assert warnings(caplog, seconds=1.0) == []


def test_a_scheduler_does_not_warn(component, fork, caplog) -> None:
    listener.on_starting(component)
    assert warnings(caplog, seconds=1.0) == []


def test_a_reconciler_that_cannot_start_warns_once(component, fork, mocker, caplog) -> None:
    mocker.patch.object(reconciler, "start", side_effect=RuntimeError("can't start new thread"))
    listener.on_starting(component)
    component.job_type = "TriggererJob"
    for _ in range(2):
        fork()
    [warning] = warnings(caplog)
    assert "does not run in this triggerer: can't start new thread" in warning


def test_only_the_api_server_reconciles_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler tells its listeners of each run that ends; it must not get threads, since it forks."""
    from airflow.jobs.job import Job

    scans: list[None] = []
    monkeypatch.setattr(scan, "scan", lambda: scans.append(None))
    monkeypatch.setattr(reconciler, "run_for", lambda _: pytest.fail("it reconciles"))
    monkeypatch.setattr(listener, "_announced", False)
    listener.on_starting(object())  # a task
    assert not scans
    listener.on_starting(Job.__new__(Job))
    assert len(scans) == 1  # before the scheduler forgets a clear
    listener.on_dag_run_failed()


def test_a_database_that_is_not_made_yet_does_not_keep_a_component_from_starting(component, fork, mocker) -> None:
    scanned: Any = mocker.patch.object(scan, "scan", side_effect=OSError("no such table"))
    listener.on_starting(component)
    assert scanned.call_count == 1
