"""What happens to a job while somebody waits for it: lines with their times, and the snapshot that pages show."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from firecrest_core.elements import counts_in_words
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.snapshot import HistoryLine, JobSnapshot
from firecrest_core.jobs.status import JobStatus
from firecrest_core.result import JobResult, duration, index_as_glob
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState

OnChange = Callable[[JobSnapshot], None]

# Lines that are kept: the first ones, and the last ones.
_FIRST, _LAST = 10, 39


class JobHistory:
    """Keeps the lines of a wait, and a snapshot of the job that is up to date.

    :param begun: the job when the wait begins, with what has happened before
    :param on_change: gets a snapshot when a line was added, or when it has become known where the job runs
    """

    def __init__(self, begun: JobSnapshot, on_change: OnChange | None = None) -> None:
        self._begun = self._newest = begun
        self._on_change = on_change
        self._lines = _Lines(begun.history)
        self._shown = self._key()

    @property
    def snapshot(self) -> JobSnapshot:
        """The job as it is known now."""
        return replace(self._newest, history=self._lines.kept())

    def on_message(self, line: str) -> None:
        """Keep a line, unless it says the same as the one before.

        :param line: as :class:`~firecrest_core.watch.tracker.JobTracker` reports it
        """
        self._lines.add(HistoryLine(time.time(), line))

    def on_status(self, status: JobStatus) -> None:
        """Take what a query says of the job.

        :param status: the answer
        """
        begun = self._begun
        self._newest = replace(
            begun,
            name=begun.name or status.name,
            state=status.state,
            reason=status.reason,
            account=status.account or begun.account,
            partition=status.partition or begun.partition,
            nodes=status.nodes,
            node_count=status.node_count,
            expected_start=status.expected_start,
            started_at=status.started_at,
            elapsed=status.elapsed,
            time_limit=status.time_limit,
            working_dir=begun.working_dir or status.working_dir,
            metrics=self._newest.metrics,
            seen_at=time.time(),
        )
        if self._key() != self._shown and self._on_change is not None:
            self._shown = self._key()
            self._on_change(self.snapshot)

    def on_winner(self, job: Job) -> None:
        """Go on with another job of the same claim, the alternative that runs.

        :param job: that job
        """
        self._begun = replace(self._begun, **_of(job))
        self._newest = replace(self._newest, **_of(job))

    def on_metrics(self, summary: str) -> None:
        """Take the last values of the job's metrics.

        :param summary: the values, in a line
        """
        self._newest = replace(self._newest, metrics=summary, seen_at=time.time())
        if self._on_change is not None:
            self._on_change(self.snapshot)

    def on_end(self, result: JobResult) -> None:
        """Take how the job ended.

        :param result: of the job that ran, which may be another one of the same claim
        """
        self._newest = replace(
            self._newest,
            job_id=result.job_id,
            name=result.name or self._newest.name,
            state=result.state,
            reason=result.reason,
            elements=counts_in_words(result.groups),
            nodes=result.nodes,
            node_count=result.node_count,
            submitted_at=result.submitted_at or self._newest.submitted_at,
            expected_start=None,
            started_at=result.started_at,
            ended_at=result.ended_at,
            elapsed=result.elapsed,
            node_hours=result.node_hours,
            exit_code=result.exit_code,
            working_dir=result.working_dir,
            stdout=result.stdout,
            stderr=result.stderr,
            usage=None if result.usage is None else result.usage.to_dict(),
            seen_at=time.time(),
        )

    def _key(self) -> tuple[Any, ...]:
        """Return what a new snapshot is worth being stored for."""
        known = self._newest
        place = known.nodes, known.started_at, known.account, known.partition
        return self._lines.count, known.state, *map(bool, place)


def _of(job: Job) -> dict[str, Any]:
    names = "job_id", "system", "working_dir", "stdout", "stderr"
    return {name: getattr(job, name) for name in names}


class _Lines:
    """The first and the last lines of a history."""

    def __init__(self, lines: Iterable[HistoryLine]) -> None:
        self.count = 0
        self._first: list[HistoryLine] = []
        self._last: deque[HistoryLine] = deque(maxlen=_LAST)
        for line in lines:
            self.add(line)

    def add(self, line: HistoryLine) -> None:
        before = self._last[-1] if self._last else self._first[-1] if self._first else None
        if before is not None and before.text == line.text:
            return
        self.count += 1
        (self._first if len(self._first) < _FIRST else self._last).append(line)

    def kept(self) -> tuple[HistoryLine, ...]:
        left_out = self.count - len(self._first) - len(self._last)
        if not left_out:
            return (*self._first, *self._last)
        return (*self._first, HistoryLine(self._first[-1].at, f"… {left_out} lines are left out here …"), *self._last)


def submitted(job: Job, spec: JobSpec | None = None, *, connection_id: str = "") -> JobSnapshot:
    """Return the first snapshot of a job, just after its submission.

    :param job: the job
    :param spec: what was asked for; ``None`` where nobody knows it any more
    :param connection_id: the engine's name of the connection that it was submitted with
    """
    now = time.time()
    return JobSnapshot(
        job_id=job.job_id,
        system=job.system,
        connection_id=connection_id,
        name=job.name,
        account=(spec and spec.account) or "",
        partition=(spec and spec.partition) or "",
        submitted_at=job.submitted_at or None,
        working_dir=job.working_dir,
        stdout=job.stdout,
        stderr=job.stderr,
        seen_at=now,
        history=(HistoryLine(job.submitted_at or now, job.submission_message()),),
    )


def cancelled(job: JobSnapshot, why: str) -> JobSnapshot:
    """Return the snapshot of a job that its task has cancelled, and for which nobody waits any more.

    Nobody asks the scheduler afterwards, so the snapshot also says how the job was seen last.

    :param job: the job as it was seen last; one that has ended stays as it is
    :param why: what has happened to the task, as the beginning of a sentence
    """
    if job.state.ended:
        return job
    now = time.time()
    line = HistoryLine(now, f"{why}, so the job was cancelled. When last seen, it was {job.state}.")
    elapsed = job.elapsed
    if job.started_at is not None:  # on the system's clock
        elapsed = max(int(now - job.started_at), elapsed or 0)
        if job.time_limit is not None:  # whoever cancels it may come days later
            elapsed = min(elapsed, job.time_limit)
    return replace(
        job,
        elapsed=elapsed,
        node_hours=job.node_count * elapsed / 3600 if job.node_count and elapsed else None,
        state=JobState.CANCELLED,
        reason=f"with its task; {job.state} when last seen",
        expected_start=None,
        ended_at=int(now),
        history=(*job.history, line),
    )


def story(job: JobSnapshot) -> list[str]:
    """Return lines that tell all that has happened to a job, for the end of a log.

    :param job: the job with its history
    """
    lines = [f"What happened to job {job.job_id} on {job.system}:"]
    lines += [f"  {clock_time(line.at)}  {line.text}" for line in job.history]
    lines += [f"  {text}" for text in (_times(job), _output(job)) if text]
    return lines


def clock_time(unix: float) -> str:
    """Return a Unix time as ``2026-11-29 14:20:00 UTC``.

    :param unix: the time
    """
    try:
        return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, OSError, ValueError):  # a number that is no time
        return "at an unknown time"


def _times(job: JobSnapshot) -> str:
    if not job.state.ended or job.started_at is None:
        return ""
    parts = []
    if job.submitted_at is not None:  # on two clocks
        parts.append(f"waited {duration(max(0.0, job.started_at - job.submitted_at))}")
    if job.elapsed is not None:
        parts.append(f"ran {duration(job.elapsed)}")
    cost = "" if job.node_hours is None else f": {job.node_hours:.4f} node hours"
    return f"It {' and '.join(parts)}{cost}." if parts else ""


def _output(job: JobSnapshot) -> str:
    stdout, stderr = index_as_glob(job.stdout), index_as_glob(job.stderr)
    if stdout is None and stderr is None:
        return ""
    if stdout is None or stderr is None or stdout == stderr:
        return f"Its output is in {stdout or stderr}."
    return f"Its output is in {stdout} and {stderr}."
