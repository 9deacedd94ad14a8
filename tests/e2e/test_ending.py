"""Tasks that end in a real Airflow at moments when nobody is there to hear of it: their jobs end all the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from demo.services import Service
from demo.stack import Stack

DAGS = '''
import os
from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator

SCRIPT = """#!/bin/bash
echo $SLURM_JOB_ID >> {{ run_id }}.began
trap 'echo $SLURM_JOB_ID >> {{ run_id }}.ended' EXIT
until [ -e {{ run_id }}.go ]; do sleep 0.2; done
"""
KINDS = {
    "deferred": {},
    "worker": {"deferrable": False, "retries": 1, "retry_delay": timedelta(hours=1)},
    "last_try": {"deferrable": False},
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
'''


class Run:
    """A run of one task, whose job goes on until it is let go."""

    def __init__(self, stack: Stack, dag_id: str, run_id: str) -> None:
        self._api = stack.api
        self._folder = Path(stack.cluster.variables["FIRECREST_WORKDIR"])
        self.dag_id, self.run_id = dag_id, run_id
        self._run = f"/dags/{dag_id}/dagRuns/{run_id}"
        self._api.trigger(dag_id, run_id)

    def task(self) -> dict[str, Any]:
        return self._api.task_instances(self.dag_id, self.run_id)[0]

    def state(self) -> str | None:
        return self.task()["state"]

    def log(self) -> str:
        return self._api.log(self.dag_id, self.run_id, self.task())

    def began(self) -> list[str]:
        return self._lines("began")

    def ended(self) -> list[str]:
        return self._lines("ended")

    def _lines(self, suffix: str) -> list[str]:
        file = self._folder / f"{self.run_id}.{suffix}"
        return file.read_text().split() if file.exists() else []

    def let_go(self) -> None:
        (self._folder / f"{self.run_id}.go").touch()

    def mark(self, state: str) -> None:
        self._api.request("PATCH", f"{self._run}/taskInstances/job", json={"new_state": state})

    def mark_run(self, state: str) -> None:
        self._api.request("PATCH", self._run, json={"state": state})

    def delete(self) -> None:
        self._api.request("DELETE", self._run)

    def clear(self) -> None:
        body = {"dry_run": False, "dag_run_id": self.run_id, "only_failed": False, "reset_dag_runs": True}
        self._api.request("POST", f"/dags/{self.dag_id}/clearTaskInstances", json=body)

    def worker(self) -> psutil.Process:
        """The process that executes the task."""
        return psutil.Process(self.task()["pid"])


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("ending")
    (home / "dags").mkdir()
    (home / "dags" / "ending.py").write_text(DAGS)
    with Stack(home / "stack", home / "dags") as stack:
        stack.wait_for_dags("deferred", "worker", "last_try", "retried", "limited", "limited_run")
        yield stack


@pytest.fixture
def run(stack: Stack, request: pytest.FixtureRequest) -> Callable[[str], Run]:
    """Start a run; its name is the test's."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return lambda dag_id: Run(stack, dag_id, f"{dag_id}-{name}")


@pytest.fixture
def frozen(stack: Stack) -> Callable[[str], Any]:
    """Hold one of Airflow's components, with all its processes, for a while."""

    @contextmanager
    def frozen(name: str) -> Iterator[None]:
        service: Service = next(each for each in stack.airflow.services if each.name.endswith(name))
        parent = psutil.Process(service.pid)
        family = [parent, *parent.children(recursive=True)]
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in reversed(family):
                process.resume()

    return frozen


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marked_before_the_trigger_started(run, frozen, state) -> None:
    with frozen("triggerer"):
        task = run("deferred")
        until(lambda: task.began() and task.state() == "deferred")
        task.mark(state)
    until(lambda: task.ended() == task.began())
    assert task.state() == state


def test_deleted_with_its_run(run) -> None:
    task = run("deferred")
    until(lambda: task.began() and "RUNNING" in task.log())
    task.mark_run("failed")
    task.delete()
    until(lambda: task.ended() == task.began())


def test_deleted_with_its_run_while_no_triggerer_runs(run, frozen) -> None:
    with frozen("triggerer"):
        task = run("deferred")
        until(lambda: task.began() and task.state() == "deferred")
        task.mark_run("failed")
        task.delete()
        until(lambda: task.ended() == task.began())


def test_cleared_while_its_new_try_cannot_start(run, frozen) -> None:
    task = run("deferred")
    until(lambda: task.began() and task.state() == "deferred")
    with frozen("scheduler"):
        task.clear()
        until(lambda: len(task.ended()) == 1)
        assert len(task.began()) == 1
    until(lambda: len(task.began()) == 2)
    task.let_go()
    until(lambda: task.state() == "success")
    assert task.ended() == task.began()


def test_marked_while_it_waits_for_a_retry(run) -> None:
    task = run("worker")
    until(task.began)
    task.worker().kill()
    until(lambda: task.state() == "up_for_retry")
    assert not task.ended()
    task.mark("failed")
    until(lambda: task.ended() == task.began())


def test_a_worker_that_was_killed_is_followed_by_one_that_goes_on_with_its_job(run) -> None:
    task = run("retried")
    until(task.began)
    task.worker().kill()
    until(lambda: task.task()["try_number"] == 2 and task.state() == "running" and "RUNNING" in task.log())
    task.let_go()
    until(lambda: task.state() == "success")
    assert len(task.began()) == 1


def test_marked_while_it_waits_in_a_worker(run) -> None:
    task = run("worker")
    until(task.began)
    task.mark("failed")
    until(lambda: task.ended() == task.began())


@pytest.mark.parametrize("dag_id", ["worker", "last_try"])
def test_cleared_while_it_waits_in_a_worker(run, dag_id) -> None:
    task = run(dag_id)
    until(task.began)
    task.clear()
    until(lambda: len(task.began()) == 2)
    assert task.ended() == task.began()[:1]
    task.let_go()
    until(lambda: task.state() == "success")


def test_execution_timeout_holds_while_deferred(run) -> None:
    task = run("limited")
    until(lambda: task.state() == "failed")
    assert "execution_timeout (0:00:08) has passed; cancelled job" in task.log()
    until(lambda: task.ended() == task.began())


def test_dagrun_timeout_ends_the_job(run) -> None:
    task = run("limited_run")
    until(task.began)
    until(lambda: task.ended() == task.began())
    assert task.state() == "skipped"
