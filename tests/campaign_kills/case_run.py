"""Running a case: its processes are started, killed, paused and started again until one reports the end."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.campaign_kills.forks import ends_within, send_signal, spawn
from tests.campaign_kills.plan import Case, Kill, Moment
from tests.campaign_kills.site import Site
from tests.campaign_kills.worker import WITHDRAWN, Start, cancel, run
from tests.chaos.cluster import JobRow

#: Seconds after which a process that nobody kills hangs. Its longest waits are those for a claim, 90 s.
_HANGS = 240.0
#: Seconds in which the jobs of a task must be gone that has ended or was cancelled. The scheduler waits 5 s for a job.
_GONE = 30.0
#: How often an engine tries a task that fails; and a process that ends with an error of its own.
_TRIES = 8
_ERRORS = 6


@dataclass
class CaseResult:
    """How a case went.

    :param case: the case
    :param folder: its directory on the cluster, with what its payloads and its processes have written
    :param outcome: the state that the last process reported; empty if none did
    :param problem: the sentence that it reported
    :param cancelled_at: the Unix time at which a person's cancel was carried out; ``None`` for none
    :param killed: how many processes were killed
    :param paused: how many were paused
    :param errors: how many ended with an error, although nobody killed them
    :param hung: a process did not end
    :param live: the jobs that were left in the end
    :param jobs: all jobs that there were
    :param log_size: of the payloads' log, when no job was left
    """

    case: Case
    folder: Path
    outcome: str = ""
    problem: str = ""
    cancelled_at: float | None = None
    killed: int = 0
    paused: int = 0
    errors: int = 0
    hung: bool = False
    live: list[JobRow] = field(default_factory=list)
    jobs: list[JobRow] = field(default_factory=list)
    log_size: int = 0

    @property
    def cancelled(self) -> bool:
        """Whether a person has cancelled it."""
        return self.cancelled_at is not None

    @property
    def log(self) -> Path:
        """What its payloads have written."""
        return self.folder / "payloads"


def run_case(site: Site, case: Case, *, sabotage: bool = False) -> CaseResult:
    """Run a case until its task has ended and its jobs are gone."""
    folder = site.folder(case.name)
    result = CaseResult(case, folder)
    engine = _Engine(result, Start(case, folder, site.variables, is_first=True, sabotage=sabotage))
    try:
        engine.run()
    finally:
        engine.end_all()
    result.live = list(site.live_jobs(case.name, _GONE))
    result.jobs = site.jobs(case.name)
    result.log_size = result.log.stat().st_size if result.log.exists() else 0
    return result


class _Engine:
    """What starts the processes of a case, as an engine does whose machines fail."""

    def __init__(self, result: CaseResult, start: Start) -> None:
        self._result = result
        self._start = start
        self._paused: list[ForkServerProcess] = []
        self._resumed: list[ForkServerProcess] = []

    def run(self) -> None:
        case, result = self._result.case, self._result
        for happened, kill in enumerate(case.kills, start=1):
            if self._ended_with(kill):
                return
            if happened == case.cancelled_after:
                self._cancel()
                break
        while not self._ended_with(None):
            if result.hung or result.errors > _ERRORS:
                return

    def end_all(self) -> None:
        """Let those that were paused come to their end."""
        self._resume()
        for process in self._resumed:
            if not ends_within(process, _HANGS):
                self._result.hung = True
                self._start.say(f"{process.pid} does not end")
                send_signal(process, signal.SIGKILL)

    def _ended_with(self, kill: Kill | None) -> bool:
        """Start a process, and tell whether the task has ended with it."""
        start, result = replace(self._start, kill=kill), self._result
        process = _spawn(run, start)
        self._start = replace(self._start, is_first=False)
        by_clock = kill is not None and kill.moment is Moment.SECONDS
        if not ends_within(process, kill.at if kill and by_clock else _HANGS):
            self._stop(process, kill)
            return False
        if process.exitcode == -signal.SIGKILL:
            result.killed += 1
        elif process.exitcode != 0:
            result.errors += 1
            start.say(f"{process.pid} has ended with exit code {process.exitcode}")
        else:
            return self._is_over(process)
        self._resume()
        return False

    def _stop(self, process: ForkServerProcess, kill: Kill | None) -> None:
        self._resume()
        if kill is None:
            self._result.hung = True
        pauses = kill is not None and kill.pauses
        self._start.say(f"{process.pid} is {'paused' if pauses else 'killed'}")
        send_signal(process, signal.SIGSTOP if pauses else signal.SIGKILL)
        if pauses:
            self._result.paused += 1
            self._paused.append(process)
        else:
            self._result.killed += 1

    def _resume(self) -> None:
        for process in self._paused:
            self._start.say(f"{process.pid} goes on")
            send_signal(process, signal.SIGCONT)
        self._resumed += self._paused
        self._paused = []

    def _is_over(self, process: ForkServerProcess) -> bool:
        """Read what a process has reported, and tell whether the engine tries the task no more."""
        reports = [json.loads(line) for line in self._start.outcomes.read_text().splitlines()]
        report = next(report for report in reports if report["pid"] == process.pid)
        result = self._result
        result.outcome, result.problem = report["state"], report["problem"]
        failed = result.problem or result.outcome not in ("COMPLETED", "CANCELLED", WITHDRAWN)
        if not failed or result.cancelled or self._start.attempt + 1 >= _TRIES:
            return True
        self._start = replace(self._start, attempt=self._start.attempt + 1)
        return False

    def _cancel(self) -> None:
        """Cancel the task, as often as the process that does it is killed."""
        result = self._result
        kills: list[Kill | None] = [*result.case.cancel_kills, None]
        while not result.cancelled and result.errors <= _ERRORS:
            kill = kills.pop(0) if kills else None
            process = _spawn(cancel, replace(self._start, kill=kill))
            if not ends_within(process, kill.at if kill and kill.moment is Moment.SECONDS else _HANGS):
                self._stop(process, kill)
            elif process.exitcode == -signal.SIGKILL:
                result.killed += 1
            elif process.exitcode == 0:
                result.cancelled_at = time.time()
            else:
                result.errors += 1


def _spawn(target: Callable[[Start], None], start: Start) -> ForkServerProcess:
    process = spawn(target, start)
    start.say(f"starts {process.pid}, to {target.__name__}")
    return process
