"""A row in the table of jobs, and what is summed up over rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from firecrest_core.jobs.snapshot import JobSnapshot
from firecrest_core.states import JobState, Phase

_FINISHED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job of a task.

    :param dag_id: the task's DAG
    :param run_id: its run
    :param task_id: the task
    :param map_index: the index of a mapped task; -1 for others
    :param try_number: the current try of the task; ``None`` if the task is no longer there
    :param task_state: the task's state in Airflow; ``None`` if it has none yet
    :param ended_earlier: an earlier try of the task, or an earlier run of a cleared one, had this job
    :param is_followed: another job of the same try has followed it, in a chain or after an escalation
    :param snapshot: the job as it was seen last
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int | None
    task_state: str | None
    ended_earlier: bool
    is_followed: bool
    snapshot: JobSnapshot

    @property
    def phase(self) -> Phase:
        """Whether the job was waiting, running or ended when it was seen last."""
        return self.snapshot.state.phase

    @property
    def is_watched(self) -> bool:
        """Whether somebody still tells of the job: it has not ended, and neither has its task."""
        return not (self.snapshot.state.ended or self.ended_earlier or self.task_state in _FINISHED)

    @property
    def submitted_at(self) -> float:
        """Unix time; when the job was seen last, if the submission is unknown."""
        submitted = self.snapshot.submitted_at
        return self.snapshot.seen_at if submitted is None else submitted

    def waited(self, now: float) -> float | None:
        """Return how many seconds the job has waited, or waited until it started; ``None`` if that is unknown.

        :param now: Unix time
        """
        job = self.snapshot
        if job.submitted_at is None:
            return None
        until: float | None = job.started_at
        if until is None:
            if job.state.phase is Phase.RUNNING:
                return None
            until = job.ended_at if job.state.ended else self._last_known(now)
        return None if until is None else max(0.0, until - job.submitted_at)

    def used(self, now: float) -> float | None:
        """Return how many seconds the job has run; ``None`` if it has not started, or that is unknown.

        The scheduler's clock and ours may differ, so the time since the job was seen is added to what it had run then.

        :param now: Unix time
        """
        job = self.snapshot
        if job.state.phase is Phase.WAITING:
            return None
        if job.state.ended:
            known = job.started_at is not None and job.ended_at is not None
            return job.elapsed if job.elapsed is not None or not known else max(0, job.ended_at - job.started_at)  # type: ignore[operator]  # `known` says so
        if job.elapsed is not None:
            return job.elapsed + max(0.0, self._last_known(now) - job.seen_at)
        return None if job.started_at is None else max(0.0, self._last_known(now) - job.started_at)

    def used_fraction(self, now: float) -> float | None:
        """Return which part of its time limit the job has used, from 0 to 1; ``None`` if that is unknown.

        :param now: Unix time
        """
        used, limit = self.used(now), self.snapshot.time_limit
        return None if used is None or not limit or limit < 0 else min(1.0, used / limit)

    def _last_known(self, now: float) -> float:
        return now if self.is_watched else min(now, self.snapshot.seen_at)


@dataclass(frozen=True, slots=True)
class NodeHours:
    """What jobs have cost an account on a system. Only jobs that have ended count.

    :param account: the account; empty if it is unknown
    :param system: the system
    :param jobs: how many jobs
    :param hours: node hours
    """

    account: str
    system: str
    jobs: int
    hours: float


@dataclass(frozen=True, slots=True)
class JobSums:
    """Sums over jobs.

    :param by_state: how many jobs are in each state, the most frequent first
    :param node_hours: what each account has used on each system, the most first
    """

    by_state: dict[JobState, int]
    node_hours: tuple[NodeHours, ...]

    @property
    def hours(self) -> float:
        """The node hours of all jobs."""
        return sum(one.hours for one in self.node_hours)


def sums(rows: Iterable[JobRow]) -> JobSums:
    """Sum up jobs: those of a DAG, of a run, or of a month.

    :param rows: the jobs
    """
    states: Counter[JobState] = Counter()
    jobs: Counter[tuple[str, str]] = Counter()
    hours: defaultdict[tuple[str, str], float] = defaultdict(float)
    for row in rows:
        job = row.snapshot
        states[job.state] += 1
        if job.node_hours is not None:
            payer = (job.account, job.system)
            jobs[payer] += 1
            hours[payer] += job.node_hours
    paid = [NodeHours(account, system, jobs[account, system], used) for (account, system), used in hours.items()]
    return JobSums(
        dict(states.most_common()), tuple(sorted(paid, key=lambda one: (-one.hours, one.account, one.system)))
    )
