"""Observing all running cases: Airflow, the cluster's queue, and the payloads."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil

from tests.chaos.observation import Observation
from tests.chaos.testbed import Testbed

_CASE = re.compile(r"case\d{4}")
#: States in which a job waits in the queue.
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED")


class Observer:
    """Observes all running cases in background threads; a context manager.

    `unexpected_deaths` are the components that ended by themselves, with the times.
    """

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._observations: dict[str, Observation] = {}
        self._stopped = threading.Event()
        self.unexpected_deaths: list[str] = []
        self._threads = [
            threading.Thread(target=self._repeat, args=each, daemon=True)
            for each in (
                (self._observe_payloads, 0.25),
                (self._observe_queue, 0.5),
                (self._observe_airflow, 0.5),
                (self._maintain, 5.0),
            )
        ]

    def __enter__(self) -> Observer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    @contextlib.contextmanager
    def observe(self, run_id: str, dag_id: str) -> Iterator[Observation]:
        """Observe a case."""
        observation = Observation(run_id, dag_id, self._testbed.folder / run_id, self._testbed.gateway)
        self._observations[run_id] = observation
        try:
            yield observation
        finally:
            del self._observations[run_id]

    def _repeat(self, observe: Callable[[], None], interval: float) -> None:
        while not self._stopped.wait(interval):
            with contextlib.suppress(httpx.HTTPError, psutil.Error):
                observe()

    def _observe_payloads(self) -> None:
        for observation in list(self._observations.values()):
            observation.read_payloads()
            for payload in observation.running:
                observation.last_alive[payload.job_id] = time.time()

    def _observe_queue(self) -> None:
        now = time.time()
        rows = self._testbed.cluster.list_jobs()
        for observation in list(self._observations.values()):
            observation.queue_listed_at = now
        for row in rows:
            match = _CASE.search(row.name)
            found = self._observations.get(match[0]) if match else None
            if found is not None and row.state.startswith(_WAITING):
                found.last_alive[re.split(r"[_+\[.]", row.job_id)[0]] = now

    def _observe_airflow(self) -> None:
        observations = {run_id: each for run_id, each in list(self._observations.items()) if each.tasks or each.history}
        if not observations:
            return
        body = {"dag_run_ids": list(observations), "page_limit": 1000}
        rows = self._testbed.api.request("POST", "/dags/~/dagRuns/~/taskInstances/list", json=body)["task_instances"]
        rows_by_run: dict[str, dict[str, Any]] = {run_id: {} for run_id in observations}
        for row in rows:
            rows_by_run[row["dag_run_id"]][row["task_id"]] = row
        for run_id, tasks in rows_by_run.items():
            observation = observations[run_id]
            if not tasks and observation.tasks:
                observation.deleted = True
            for task_id, row in tasks.items():
                before = observation.tasks.get(task_id, {})
                if before and any(row[name] != before[name] for name in ("state", "try_number", "max_tries")):
                    observation.record(
                        f"{task_id} is {row['state']}, try {row['try_number']} of {row['max_tries'] + 1}"
                    )
            observation.tasks = tasks or observation.tasks

    def _maintain(self) -> None:
        self._testbed.kill_idle_workers()
        for name, component in self._testbed.components.items():
            if component.restart_if_dead():
                self.unexpected_deaths.append(f"{name} at {time.time():.1f}")
