"""What a person does to a task that waits, in a real Airflow: one payload at a time, and none that nobody wants."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.stack import Stack

DAG = '''
import os

from airflow.sdk import DAG

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator

SCRIPT = """#!/bin/bash
echo $SLURM_JOB_ID >> {{ run_id }}.began
trap 'echo $SLURM_JOB_ID >> {{ run_id }}.ended' EXIT
until [ -e {{ run_id }}.go ]; do sleep 0.2; done
"""

with DAG("waits", schedule=None):
    FirecRESTSubmitOperator(
        task_id="job", script=SCRIPT, working_dir=os.environ["FIRECREST_WORKDIR"], poll_interval=1
    )
'''


class Waiting:
    """A run whose job goes on until it is let go."""

    def __init__(self, stack: Stack, run_id: str) -> None:
        self._api = stack.api
        self._folder = Path(stack.cluster.variables["FIRECREST_WORKDIR"])
        self.run_id = run_id
        self._api.trigger("waits", run_id)

    def state(self) -> str | None:
        return next((task["state"] for task in self._api.task_instances("waits", self.run_id)), None)

    def watched(self) -> bool:
        """Whether the triggerer tells the job's story already."""
        tasks = self._api.task_instances("waits", self.run_id)
        return any("RUNNING" in self._api.log("waits", self.run_id, task) for task in tasks)

    def began(self) -> list[str]:
        return self._lines("began")

    def ended(self) -> list[str]:
        return self._lines("ended")

    def _lines(self, suffix: str) -> list[str]:
        file = self._folder / f"{self.run_id}.{suffix}"
        return file.read_text().split() if file.exists() else []

    def let_go(self) -> None:
        (self._folder / f"{self.run_id}.go").touch()

    def clear(self) -> None:
        body = {"dry_run": False, "dag_run_id": self.run_id, "only_failed": False, "reset_dag_runs": True}
        self._api.request("POST", "/dags/waits/clearTaskInstances", json=body)

    def mark(self, state: str) -> None:
        path = f"/dags/waits/dagRuns/{self.run_id}/taskInstances/job"
        self._api.request("PATCH", path, json={"new_state": state})


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def waits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Waiting]]:
    home = tmp_path_factory.mktemp("exactly-once")
    (home / "dags").mkdir()
    (home / "dags" / "waits.py").write_text(DAG)
    with Stack(home / "stack", home / "dags") as stack:
        stack.wait_for_dags("waits")

        def start(run_id: str) -> Waiting:
            run = Waiting(stack, run_id)
            until(lambda: run.state() == "deferred" and len(run.began()) == 1)
            until(run.watched)
            return run

        yield start


def test_a_clear_while_deferred_ends_the_old_job_first(waits: Callable[[str], Waiting]) -> None:
    run = waits("clear")
    run.clear()
    until(lambda: len(run.began()) == 2)
    assert run.ended() == run.began()[:1]  # the old payload was gone before the new one began
    run.let_go()
    until(lambda: run.state() == "success")
    assert run.ended() == run.began()


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marking_a_deferred_task_ends_its_job(waits: Callable[[str], Waiting], state: str) -> None:
    run = waits(f"mark-{state}")
    run.mark(state)
    until(lambda: run.ended() == run.began())
    assert run.state() == state
