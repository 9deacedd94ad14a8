"""In which of Airflow's processes the reconciler runs, and what is said where it cannot."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.listeners.spec import dagrun
from pluggy import PluginManager
from pytest_mock import MockerFixture

from airflow_provider_firecrest.cancellation import reconciler, scan
from airflow_provider_firecrest.plugins import listener


@pytest.fixture
def component(mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A component as listeners get it: Airflow says what kind it is only after that."""
    monkeypatch.setattr(listener, "SECONDS_TO_FORK", 0.3)
    monkeypatch.delitem(sys.modules, "airflow.jobs.triggerer_job_runner", raising=False)
    mocker.patch("airflow.jobs.job.Job", SimpleNamespace)
    mocker.patch.object(scan, "note_clears")
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


def test_components_note_clears_when_they_start(component, mocker) -> None:
    """Before the scheduler forgets a clear. A task may not read the database."""
    noted = mocker.patch.object(scan, "note_clears")
    listener.on_starting(object())
    assert noted.call_count == 0
    listener.on_starting(component)
    assert noted.call_count == 1


@pytest.mark.parametrize("is_api_server", [True, False])
@pytest.mark.parametrize("state", ["success", "failed"])
def test_only_the_api_server_looks_after_a_marked_run(mocker, monkeypatch, is_api_server, state) -> None:
    """The scheduler tells its listeners of each run that ends; it must not get threads, since it forks.

    So does ``dag.test()``, whose process ends then.
    """
    modules = {"airflow.api_fastapi.main": SimpleNamespace()} if is_api_server else {}
    monkeypatch.delitem(sys.modules, "airflow.api_fastapi.main", raising=False)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    look_after = mocker.patch.object(reconciler, "look_after")
    manager = PluginManager("airflow")
    manager.add_hookspecs(dagrun)
    manager.register(listener)
    getattr(manager.hook, f"on_dag_run_{state}")(dag_run=SimpleNamespace(id=7), msg="marked")
    assert [call.args[0] for call in look_after.call_args_list] == ([7] if is_api_server else [])


def test_after_a_run_was_marked_the_api_server_looks_after_it_for_a_while(mocker, monkeypatch) -> None:
    monkeypatch.setattr(reconciler, "_thread", None)
    record = SimpleNamespace(row=(1, "record"))
    mocker.patch.object(reconciler, "_marked_runs", SimpleNamespace(add=lambda dag_run, _: [record] * (dag_run == 7)))
    started: list[Any] = []

    class Thread:
        """A thread that only says that it was started."""

        def __init__(self, source: Any, until: float) -> None:
            self.reconciler, self.until = SimpleNamespace(remember=started.append), until

        def start(self) -> None:
            started.append("thread")

        def is_alive(self) -> bool:
            return True

    monkeypatch.setattr(reconciler, "ReconcilerThread", Thread)
    reconciler.look_after(8, 30.0)  # a run without a job
    assert started == []
    reconciler.look_after(7, 30.0)
    until = reconciler._thread.until
    reconciler.look_after(7, 60.0)
    assert started == ["thread", [record], [record]]  # one thread is enough
    assert reconciler._thread.until > until


def test_a_database_that_is_not_made_yet_does_not_keep_a_component_from_starting(component, fork, mocker) -> None:
    scanned: Any = mocker.patch.object(scan, "note_clears", side_effect=OSError("no such table"))
    listener.on_starting(component)
    assert scanned.call_count == 1
