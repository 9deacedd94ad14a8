"""What is observed of one case: the states of its tasks, its payloads, and when its jobs were last alive."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.gateway import Gateway

_TERMINAL = {"success", "failed", "upstream_failed", "skipped", "removed"}


@dataclass
class Payload:
    """One payload that ran: the script of a job or of an array element.

    :param started: the Unix time of its start
    :param ended: the Unix time of its end; None while it runs
    :param code: its exit code; None if it was killed before it could write one
    """

    epoch: int
    job_id: str
    element: str
    pid: int
    started: float
    ended: float | None = None
    code: int | None = None

    def __str__(self) -> str:
        end = "runs" if self.ended is None else f"{self.ended - self.started:.1f} s, exit code {self.code}"
        return f"job {self.job_id}[{self.element}] of epoch {self.epoch}, started {self.started:.1f}: {end}"

    def is_running(self) -> bool:
        """Return whether its process exists."""
        try:
            process = psutil.Process(self.pid)
            return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() < self.started + 1)
        except psutil.NoSuchProcess:
            return False


@dataclass
class Observation:
    """All that was observed of one case.

    :param folder: the working directory of its jobs
    :param tasks: its task instances as Airflow's API shows them, by task id
    :param deleted: whether Airflow no longer has the run
    :param last_alive: the Unix time at which each job was last observed running or waiting in the queue
    :param queue_listed_at: the Unix time of the last successful listing of the queue
    :param history: what happened, with Unix times
    """

    run_id: str
    dag_id: str
    folder: Path
    gateway: Gateway
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    deleted: bool = False
    payloads: list[Payload] = field(default_factory=list)
    last_alive: dict[str, float] = field(default_factory=dict)
    queue_listed_at: float = 0.0
    history: list[tuple[float, str]] = field(default_factory=list)
    _offset: int = 0

    @property
    def job_task(self) -> dict[str, Any]:
        """The task instance that submits the job."""
        return self.tasks.get("job", {})

    @property
    def finished(self) -> bool:
        """Whether the run was deleted or all of its tasks are in a terminal state."""
        return self.deleted or (bool(self.tasks) and all(task["state"] in _TERMINAL for task in self.tasks.values()))

    @property
    def running(self) -> list[Payload]:
        """The payloads that run."""
        return [payload for payload in self.payloads if payload.ended is None]

    def record(self, text: str) -> None:
        """Add something to the history."""
        self.history.append((time.time(), text))

    def read_payloads(self) -> None:
        """Read what payloads have written, and record the end of those whose processes have disappeared."""
        with contextlib.suppress(FileNotFoundError), (self.folder / "payloads").open() as file:
            file.seek(self._offset)
            for line in file:
                self._offset += len(line)
                self._parse(line.split())
        for payload in self.running:
            if not payload.is_running():
                payload.ended = time.time()
                self.record(f"{payload}")

    def _parse(self, words: list[str]) -> None:
        event, at, job_id, element, pid = words[:5]
        if event == "started":
            payload = Payload(self.gateway.epoch_of(self.run_id, job_id), job_id, element, int(pid), float(at))
            self.payloads.append(payload)
            self.record(f"{payload}")
            return
        for payload in self.payloads:
            if (payload.job_id, payload.element, payload.pid) == (job_id, element, int(pid)):
                payload.ended, payload.code = float(at), int(words[5])
                self.record(f"{payload}")
