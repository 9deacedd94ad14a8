"""Runs of one task in a real Airflow. Its job runs until the test lets it finish."""

from __future__ import annotations

import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from airflow_provider_firecrest.job_records import STORE_KEY
from harness.airflow.api import FINISHED
from harness.airflow.stack import AirflowStack, stack_with_dags
from harness.service import Service

# Seconds. Nothing here takes a quarter of it.
PATIENCE = 120.0

DAGS = '''
import os
from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator

SCRIPT = """#!/bin/bash
echo $SLURM_JOB_ID >> {{ run_id }}.started
trap 'echo $SLURM_JOB_ID >> {{ run_id }}.ended' EXIT
until [ -e {{ run_id }}.finish ]; do sleep 0.2; done
"""
KINDS = {
    "deferred": {},
    "worker": {"deferrable": False, "retries": 1, "retry_delay": timedelta(hours=1)},
    "last_try": {"deferrable": False, "retry_delay": timedelta(0)},
    "retried": {"deferrable": False, "retries": 1, "retry_delay": timedelta(0)},
    "limited": {"execution_timeout": timedelta(seconds=8)},
    "limited_run": {},
}

for dag_id, options in KINDS.items():
    limit = timedelta(seconds=8) if dag_id == "limited_run" else None
    with DAG(dag_id, schedule=None, dagrun_timeout=limit):
        FirecRESTSubmitOperator(
            task_id="job", script=SCRIPT, working_dir=os.environ["FIRECREST_WORKDIR"], poll_interval=1, **options
        )

FUNCTIONS = {
    "function": {"retry_delay": timedelta(0)},
    "retried_function": {"retries": 1, "retry_delay": timedelta(0)},
    "limited_function": {"execution_timeout": timedelta(seconds=15)},
}

for dag_id, options in FUNCTIONS.items():
    with DAG(dag_id, schedule=None):

        @task(task_id="job", **options)
        def submit_and_wait(run_id=None):
            from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook

            hook = FirecRESTHook()
            script = SCRIPT.replace("{{ run_id }}", run_id)
            job = hook.submit_job(script=script, working_dir=os.environ["FIRECREST_WORKDIR"])
            return hook.wait_for_job(job, poll_interval=1)

        @task
        def read(result):
            return f"{result.job_id} {result.state}"

        read(submit_and_wait())
'''


class WaitingRun:
    """A run of one task whose job runs until `finish_job` is called."""

    def __init__(self, stack: AirflowStack, dag_id: str, run_id: str) -> None:
        self._api = stack.api
        self._services = stack.airflow.services
        self._scheduler = stack.airflow.service("scheduler")
        self._folder = Path(stack.firecrest.variables["FIRECREST_WORKDIR"])
        self.dag_id, self.run_id = dag_id, run_id
        self._run = f"/dags/{dag_id}/dagRuns/{run_id}"
        self._record = f"{self._run}/taskInstances/job/state-store/{STORE_KEY}"
        self._api.trigger(dag_id, run_id)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds.

        A component of Airflow that has crashed is started again, as systemd does; a scheduler that seems to hang, too.
        What they have said is printed, and fails the test if this project's code is in it.
        """
        began = time.monotonic()
        restart_at = began + PATIENCE
        while not condition():
            self._restart_crashed()
            if time.monotonic() > restart_at:
                restart_at = math.inf
                _abort([self._scheduler])
            assert time.monotonic() < began + 2 * PATIENCE, self._stacks()
            time.sleep(0.2)

    def _restart_crashed(self) -> None:
        for service in self._services:
            if service.exit_code is not None:
                end = f"{service.name} ended with exit code {service.exit_code}:\n{service.tail(80)}"
                service.start()
                assert not re.search(r'File "[^"]*/(airflow_provider_firecrest|firecrest_core)/', end), end
                print(end)  # pytest shows it if the test fails all the same

    def _stacks(self) -> str:
        """Abort what may hang, and return its logs, which then end with the stacks of its threads; start it again."""
        suspects = [service for service in self._services if service.name != "Airflow's api-server"]
        _abort(suspects)
        stacks = "\n\n".join(f"{service.log}:\n{service.tail(80)}" for service in suspects)
        for service in suspects:
            service.start()
        return stacks

    def task(self) -> dict[str, Any]:
        return next(one for one in self._api.task_instances(self.dag_id, self.run_id) if one["task_id"] == "job")

    def state(self) -> str | None:
        return self.task()["state"]

    def xcom(self, task_id: str) -> Any:
        """Return what a task has returned."""
        return self._api.request("GET", f"{self._run}/taskInstances/{task_id}/xcomEntries/return_value")["value"]

    def run_state(self) -> str:
        return self._api.request("GET", self._run)["state"]

    def log(self) -> str:
        return self._api.log(self.dag_id, self.run_id, self.task())

    def is_running(self) -> bool:
        """Return whether its job runs and the task's log shows it as RUNNING."""
        return bool(self.started_jobs()) and "RUNNING" in self.log()

    def started_jobs(self) -> list[str]:
        """Return the ids of the jobs that have started, in their order."""
        return self._lines("started")

    def ended_jobs(self) -> list[str]:
        """Return the ids of the jobs that have ended, in their order."""
        return self._lines("ended")

    def _lines(self, suffix: str) -> list[str]:
        file = self._folder / f"{self.run_id}.{suffix}"
        return file.read_text().split() if file.exists() else []

    def finish_job(self) -> None:
        """Let the job end successfully."""
        (self._folder / f"{self.run_id}.finish").touch()

    def give_up(self) -> None:
        """End the run in whatever state a failed test has left it, so that it takes no slot from others."""
        self.finish_job()
        with suppress(httpx.HTTPStatusError):  # the test has deleted it
            if self.run_state() not in FINISHED:
                self.mark_run("failed")

    def mark(self, state: str) -> None:
        self._api.request("PATCH", f"{self._run}/taskInstances/job", json={"new_state": state})

    def mark_run(self, state: str) -> None:
        self._api.request("PATCH", self._run, json={"state": state})

    def delete(self) -> None:
        self._api.request("DELETE", self._run)

    def clear(self) -> None:
        body = {"dry_run": False, "dag_run_id": self.run_id, "only_failed": False, "reset_dag_runs": True}
        self._api.request("POST", f"/dags/{self.dag_id}/clearTaskInstances", json=body)

    def read_record(self) -> Any:
        """Return the record of its jobs, as Airflow's API shows it."""
        return self._api.request("GET", self._record)["value"]

    def write_record(self, record: Any) -> None:
        """Store another record, as whoever may edit the task instance can do."""
        self._api.request("PUT", self._record, json={"value": record})

    def worker(self) -> psutil.Process:
        """Return the process that executes the task."""
        return psutil.Process(self.task()["pid"])


def _abort(services: list[Service]) -> None:
    """End services with SIGABRT, at which Python prints the stacks of all threads."""
    for service in services:
        os.kill(service.pid, signal.SIGABRT)
    deadline = time.monotonic() + 10
    while any(service.exit_code is None for service in services) and time.monotonic() < deadline:
        time.sleep(0.1)


@contextmanager
def waiting_dags(home: Path, database: str) -> Iterator[AirflowStack]:
    """Start an Airflow with the DAGs of this module.

    :param home: an existing directory
    :param database: the URL of Airflow's database
    """
    operators = ("deferred", "worker", "last_try", "retried", "limited", "limited_run")
    dag_ids = (*operators, "function", "retried_function", "limited_function")
    variables = {"PYTHONFAULTHANDLER": "1", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database}
    with stack_with_dags(home, DAGS, *dag_ids, variables=variables) as stack:
        yield stack
