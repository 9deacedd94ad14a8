"""Airflow's processes: contract tests of ``airflow_internals``."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_firecrest import airflow_internals
from tests.airflow.internals.contract import contract


class Listener:
    """A listener that keeps with what it was called, and what was known then."""

    def __init__(self) -> None:
        self.component: Any = None
        self.was_component = False
        self.was_triggerer = False

    def on_starting(self, component: Any) -> None:
        self.component = component
        self.was_component = airflow_internals.is_component(component)
        self.was_triggerer = airflow_internals.is_triggerer(component)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Listener:
    """Receive what Airflow calls listeners with when a component starts."""
    from airflow.jobs import job

    listener = Listener()
    monkeypatch.setattr(job, "get_listener_manager", lambda: SimpleNamespace(hook=listener))
    return listener


def test_is_component(listener) -> None:
    from airflow.jobs.job import Job
    from airflow.sdk.execution_time.task_runner import TaskRunnerMarker

    with contract(
        airflow_internals.is_component,
        "the listeners of components are called with an airflow.jobs.job.Job, those of tasks with something else",
    ):
        Job()
        assert listener.was_component
        assert not airflow_internals.is_component(TaskRunnerMarker())


def test_is_triggerer(listener) -> None:
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.jobs.triggerer_job_runner import TriggererJobRunner

    with contract(
        airflow_internals.is_triggerer,
        "a triggerer's Job has the job_type 'TriggererJob', which is set after on_starting and before the fork",
    ):
        TriggererJobRunner(Job(), capacity=1)
        assert not listener.was_triggerer
        assert airflow_internals.is_triggerer(listener.component)
        SchedulerJobRunner(Job())
        assert not airflow_internals.is_triggerer(listener.component)


def test_a_triggerer_forks(listener, monkeypatch) -> None:
    from airflow.jobs.job import Job
    from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor

    class Forked(Exception):
        pass

    def fork() -> None:
        raise Forked

    with contract(
        "is_triggerer and plugins.listener",
        "a triggerer runs its triggers in a process that it forks, so that hooks of os.register_at_fork are called",
    ):
        monkeypatch.setattr(os, "fork", fork)
        with pytest.raises(Forked):
            TriggerRunnerSupervisor.start(job=Job(), capacity=1)


@pytest.mark.parametrize(("component", "may_be"), [("triggerer", True), ("scheduler", False), ("dag_processor", False)])
def test_may_be_triggerer(component, may_be) -> None:
    with contract(
        airflow_internals.may_be_triggerer,
        "of all components the triggerer alone imports airflow.jobs.triggerer_job_runner",
    ):
        code = (
            f"import airflow.cli.commands.{component}_command;"
            "from airflow_provider_firecrest import airflow_internals;"
            "print(airflow_internals.may_be_triggerer())"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ran.stdout.split()[-1] == str(may_be)


def test_hostname() -> None:
    with contract(airflow_internals.hostname, "airflow.utils.net.get_hostname names this host"):
        assert airflow_internals.hostname()


@pytest.mark.parametrize("component", ["triggerer", "worker"])
def test_metrics_of_this_process(component, monkeypatch) -> None:
    from airflow.jobs import triggerer_job_runner
    from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
    from airflow.sdk.execution_time import task_runner

    names = []

    class Backend(NoStatsLogger):
        def incr(self, stat, *_, **__):
            names.append(stat)

        gauge = timing = incr

    runner = triggerer_job_runner if component == "triggerer" else task_runner
    if component == "worker":
        monkeypatch.delitem(sys.modules, "airflow.jobs.triggerer_job_runner")
    with contract(
        airflow_internals.metrics_of_this_process,
        "a triggerer sets up the metrics of Airflow's core, and a task those of its Task SDK",
    ):
        try:
            runner.stats.initialize(factory=Backend, export_legacy_names=True)
            metrics = airflow_internals.metrics_of_this_process()
            metrics.incr("firecrest.requests", tags={"status": "200"})
            metrics.gauge("firecrest.jobs.waiting", 1, tags={"system": "here"})
            metrics.timing("firecrest.poll", timedelta(seconds=1), tags={"system": "here"})
        finally:
            runner.stats.initialize(factory=NoStatsLogger, export_legacy_names=True)
        assert names == ["firecrest.requests", "firecrest.jobs.waiting", "firecrest.poll"]


IMPORTS = """
import sys
from airflow.api_fastapi.execution_api import app
from airflow.dag_processing import manager
from airflow.jobs import scheduler_job_runner, triggerer_job_runner
from airflow.sdk.definitions import dag
from airflow.sdk.execution_time import supervisor, task_runner
from airflow_provider_firecrest.airflow_internals import is_api_server
assert not is_api_server()
"""


def test_is_api_server() -> None:
    def source(module: str) -> str:
        return Path(importlib.util.find_spec(module).origin).read_text()  # it is not imported: it may need gunicorn

    with contract(
        airflow_internals.is_api_server,
        "each way to start the API server imports airflow.api_fastapi.main, and no other component or dag.test() does",
    ):
        assert '"airflow.api_fastapi.main:app"' in source("airflow.cli.commands.api_server_command")
        assert "from airflow.api_fastapi.main import app" in source("airflow.api_fastapi.gunicorn_app")
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)
