"""What is seen of the cases: states in Airflow, payloads and their processes, jobs in the queue."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from kill_matrix.gateway import Gateway
from kill_matrix.site import Site

_CASE = re.compile(r"case\d{4}")
_TERMINAL = {"success", "failed", "upstream_failed", "skipped", "removed"}
#: States in which a job waits for its turn.
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED")


@dataclass
class Payload:
    """One payload that ran: a job, or an element of an array.

    Parameters:
        began, ended: seconds since the epoch; `ended` is None while it runs.
        code: its exit code; None if it was killed before it could say so.
    """

    epoch: int
    job_id: str
    element: str
    pid: int
    began: float
    ended: float | None = None
    code: int | None = None

    def __str__(self) -> str:
        end = "runs" if self.ended is None else f"{self.ended - self.began:.1f} s, exit code {self.code}"
        return f"job {self.job_id}[{self.element}] of epoch {self.epoch}, began {self.began:.1f}: {end}"


@dataclass
class Sight:
    """All that was seen of one case."""

    run_id: str
    dag_id: str
    folder: Path
    gateway: Gateway
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    deleted: bool = False
    payloads: list[Payload] = field(default_factory=list)
    #: When a job was last seen alive or waiting for its turn.
    alive: dict[str, float] = field(default_factory=dict)
    #: When the cluster last told what is in its queue.
    listed: float = 0.0
    history: list[tuple[float, str]] = field(default_factory=list)
    _offset: int = 0

    @property
    def job(self) -> dict[str, Any]:
        """The task instance that submits."""
        return self.tasks.get("job", {})

    @property
    def over(self) -> bool:
        """Whether nothing is to be expected of Airflow any more."""
        return self.deleted or (bool(self.tasks) and all(task["state"] in _TERMINAL for task in self.tasks.values()))

    @property
    def running(self) -> list[Payload]:
        return [payload for payload in self.payloads if payload.ended is None]

    def note(self, text: str) -> None:
        """Write something down with its time."""
        self.history.append((time.time(), text))

    def read_payloads(self) -> None:
        """Read what payloads have said, and look whether those that run do run."""
        with contextlib.suppress(FileNotFoundError), (self.folder / "payloads").open() as file:
            file.seek(self._offset)
            for line in file:
                self._offset += len(line)
                self._hear(line.split())
        for payload in self.running:
            if not _runs(payload):
                payload.ended = time.time()
                self.note(f"{payload}")

    def _hear(self, words: list[str]) -> None:
        said, at, job_id, element, pid = words[:5]
        if said == "began":
            payload = Payload(self.gateway.epoch_of(self.run_id, job_id), job_id, element, int(pid), float(at))
            self.payloads.append(payload)
            self.note(f"{payload}")
            return
        for payload in self.payloads:
            if (payload.job_id, payload.element, payload.pid) == (job_id, element, int(pid)):
                payload.ended, payload.code = float(at), int(words[5])
                self.note(f"{payload}")


class Observer:
    """Looks at all cases that go on, again and again; a context manager."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._sights: dict[str, Sight] = {}
        self._done = threading.Event()
        self.deaths: list[str] = []
        self._threads = [
            threading.Thread(target=self._repeat, args=each, daemon=True)
            for each in ((self._payloads, 0.25), (self._jobs, 0.5), (self._airflow, 0.5), (self._tidy, 5.0))
        ]

    def __enter__(self) -> Observer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    @contextlib.contextmanager
    def watch(self, run_id: str, dag_id: str) -> Iterator[Sight]:
        """Look at a case."""
        sight = Sight(run_id, dag_id, self._site.folder / run_id, self._site.gateway)
        self._sights[run_id] = sight
        try:
            yield sight
        finally:
            del self._sights[run_id]

    def _repeat(self, look: Any, pause: float) -> None:
        while not self._done.wait(pause):
            with contextlib.suppress(httpx.HTTPError, psutil.Error):
                look()

    def _payloads(self) -> None:
        for sight in list(self._sights.values()):
            sight.read_payloads()
            for payload in sight.running:
                sight.alive[payload.job_id] = time.time()

    def _jobs(self) -> None:
        now = time.time()
        rows = self._site.jobs.list()
        for sight in list(self._sights.values()):
            sight.listed = now
        for row in rows:
            match = _CASE.search(row.name)
            found = self._sights.get(match[0]) if match else None
            if found is not None and row.state.startswith(_WAITING):
                found.alive[re.split(r"[_+\[.]", row.job_id)[0]] = now

    def _airflow(self) -> None:
        sights = {run_id: sight for run_id, sight in self._sights.items() if sight.tasks}
        sights |= {run_id: sight for run_id, sight in self._sights.items() if sight.history}
        if not sights:
            return
        body = {"dag_run_ids": list(sights), "page_limit": 1000}
        rows = self._site.api.request("POST", "/dags/~/dagRuns/~/taskInstances/list", json=body)["task_instances"]
        seen: dict[str, dict[str, Any]] = {run_id: {} for run_id in sights}
        for row in rows:
            seen[row["dag_run_id"]][row["task_id"]] = row
        for run_id, tasks in seen.items():
            sight = sights[run_id]
            if not tasks and sight.tasks:
                sight.deleted = True
            for task_id, row in tasks.items():
                before = sight.tasks.get(task_id, {})
                what = [(row["state"], row["try_number"], row["max_tries"])]
                if before and what != [(before["state"], before["try_number"], before["max_tries"])]:
                    sight.note(f"{task_id} is {row['state']}, try {row['try_number']} of {row['max_tries'] + 1}")
            sight.tasks = tasks or sight.tasks

    def _tidy(self) -> None:
        self._site.tidy()
        for name, component in self._site.components.items():
            if component.revive():
                self.deaths.append(f"{name} at {time.time():.1f}")


def _runs(payload: Payload) -> bool:
    try:
        process = psutil.Process(payload.pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() < payload.began + 1)
    except psutil.NoSuchProcess:
        return False
