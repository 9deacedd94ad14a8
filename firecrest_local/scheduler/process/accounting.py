"""Slurm's two views of a job: the accounting of `sacct` and the queue of `squeue`.

The accounting lags. For some seconds after a job has started it has only the allocation: such a row has the name
`allocation`, no partition and no working directory, is PENDING until the job ends, and is shown only in answer to a
request for this one id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from firecrest_local.scheduler.interface import ALLOCATION, Row
from firecrest_local.scheduler.jobs.arrays import format_indices
from firecrest_local.scheduler.jobs.job import (
    CANCELLED,
    COMPLETED,
    FAILED,
    NODE,
    OUT_OF_MEMORY,
    RUNNING,
    TIMEOUT,
    Job,
    Step,
)
from firecrest_local.visibility import Visibility

#: Reasons that the accounting keeps after they have passed.
LASTING_REASONS = frozenset(
    {
        "BeginTime",
        "Dependency",
        "DependencyNeverSatisfied",
        "JobArrayTaskLimit",
        "JobHeldUser",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
    }
)
#: A job that is cancelled while it is pending for one of these reasons never became eligible. The accounting's list
#: leaves it out.
NEVER_ELIGIBLE = frozenset({"BeginTime", "Dependency", "DependencyNeverSatisfied", "JobHeldUser"})


def _status(state: str, reason: str | None, exit_code: int | None, signal: int | None) -> Row:
    return {"state": state, "stateReason": reason, "exitCode": exit_code, "interruptSignal": signal}


def _time(elapsed: int, start: float | None, end: float | None, suspended: int | None, limit: int | None) -> Row:
    def whole(moment: float | None) -> int | None:
        return None if moment is None else int(moment)

    return {
        "elapsed": elapsed,
        "start": whole(start),
        "end": whole(end),
        "suspended": suspended,
        "limit": limit,
    }


# Seconds. Slurm plans the jobs of its queue now and then, so a new job has no expected start yet.
_PLANNED_AFTER = 5.0


def _elapsed(start: float | None, end: float | None, now: float) -> int:
    return 0 if start is None else int(end if end is not None else now) - int(start)


class AccountingView:
    """Shows jobs as rows.

    :param cluster: the system's name.
    :param group: the user's group.
    :param visibility: how late jobs become visible.
    """

    def __init__(self, cluster: str, group: str, visibility: Visibility) -> None:
        self._cluster = cluster
        self._group = group
        self._visibility = visibility

    # --- squeue

    def queue_row(self, job: Job, now: float) -> Row:
        """Return the row of one job that is pending or running."""
        planned = job.expected_start if now - job.submitted >= _PLANNED_AFTER else None
        start = planned if job.pending else job.start
        end = None if start is None or job.limit is None else start + job.limit
        return self._row(
            job,
            job_id=str(job.id),
            status=_status(job.state, job.reason if job.pending else "None", None, None),
            time=_time(_elapsed(job.start, None, now), start, end, None, job.limit),
            nodes=NODE if job.running else "",
            node_count=job.nodes,
        )

    def queue_rows(self, jobs: Iterable[Job], now: float) -> list[Row]:
        """Return what the queue shows. The pending elements of an array share one row."""
        rows: list[Row] = []
        arrays: set[int] = set()
        for job in self._visible(jobs, now):
            if job.ended or "|" in job.name:
                continue
            row = self.queue_row(job, now)
            if job.pending and job.array_id is not None:
                if job.array_id in arrays:
                    continue
                arrays.add(job.array_id)
                row["jobId"] = str(job.array_id)
            rows.append(row)
        return rows

    # --- sacct

    def known(self, job: Job, now: float) -> bool:
        """Return whether the accounting has the whole record of the job."""
        if job.unrecorded:
            return False
        since = job.end if job.start is None else job.start
        return since is not None and now >= since + self._visibility.accounting_lag

    def listed(self, job: Job, now: float) -> bool:
        """Return whether the accounting's list shows the job."""
        if not self.known(job, now):
            return False
        if job.end is None:
            return True
        if job.start is None and job.reason in NEVER_ELIGIBLE:
            return False
        return now >= job.end + self._visibility.accounting_lag

    def accounted_rows(
        self, jobs: Sequence[Job], steps: dict[int, list[Step]], now: float, job_id: int | None
    ) -> list[Row]:
        """Return what the accounting shows.

        :param jobs: the jobs to show.
        :param steps: the `srun` steps of running jobs, by job id.
        :param now: the Unix time.
        :param job_id: the id that the request names; None for the list.
        """
        jobs = self._visible(jobs, now)
        rows: list[Row] = []
        for job in jobs:
            shown = self.known(job, now) if job_id is not None else self.listed(job, now)
            if shown and "|" not in job.name:
                rows.append(self.full_row(job, steps.get(job.id, job.steps), now))
            elif job_id == job.id and not job.pending and not shown and not job.unrecorded:
                rows.append(self.partial_row(job, steps.get(job.id, job.steps), now))
        if job_id is not None:
            waiting = [job for job in jobs if job.pending and job.array_id is not None]
            if waiting and now >= waiting[0].submitted + self._visibility.accounting_lag:
                rows.append(self._waiting_elements_row(waiting))
        return rows

    def full_row(self, job: Job, steps: Sequence[Step], now: float) -> Row:
        """Return the row of a job of which the accounting has the whole record."""
        return self._row(
            job,
            job_id=job.accounting_id,
            status=_status(
                self._state(job),
                job.reason if job.reason in LASTING_REASONS else "None",
                job.exit_code,
                0 if job.state in (TIMEOUT, CANCELLED) else job.signal,
            ),
            time=_time(_elapsed(job.start, job.end, now), job.start, job.end, 0, job.limit),
            nodes="None assigned" if job.start is None else NODE,
            node_count=0 if job.start is None else job.nodes,
            tasks=self._tasks(job, job.accounting_id, steps, now),
        )

    def partial_row(self, job: Job, steps: Sequence[Step], now: float) -> Row:
        """Return the row of a job of which the accounting has only the allocation."""
        start = job.end if job.start is None else job.start
        row = self._row(
            job,
            job_id=str(job.id),
            status=_status(
                "PENDING" if job.running else self._state(job),
                "None",
                job.exit_code,
                0 if job.state in (TIMEOUT, CANCELLED) else job.signal,
            ),
            time=_time(_elapsed(start, job.end, now), start, job.end, 0, None),
            nodes="None assigned" if job.start is None else NODE,
            node_count=job.nodes if job.ended and job.start is not None else 0,
            tasks=self._tasks(job, str(job.id), steps, now),
        )
        return row | ALLOCATION

    def _waiting_elements_row(self, waiting: Sequence[Job]) -> Row:
        first = waiting[0]
        indices = format_indices([job.task_id for job in waiting if job.task_id is not None], first.throttle)
        return self._row(
            first,
            job_id=f"{first.array_id}_[{indices}]",
            status=_status("PENDING", first.reason, 0, 0),
            time=_time(0, None, None, 0, first.limit),
            nodes="None assigned",
            node_count=0,
        )

    # --- both

    def _visible(self, jobs: Iterable[Job], now: float) -> list[Job]:
        return [job for job in jobs if now >= job.submitted + self._visibility.invisible]

    def _row(
        self,
        job: Job,
        *,
        job_id: str,
        status: Row,
        time: Row,
        nodes: str,
        node_count: int,
        tasks: list[Row] | None = None,
    ) -> Row:
        return {
            "jobId": job_id,
            "name": job.name,
            "status": status,
            "tasks": tasks or [],
            "time": time,
            "account": job.account,
            "allocationNodes": node_count,
            "cluster": self._cluster,
            "group": self._group,
            "nodes": nodes,
            "partition": job.partition,
            "killRequestUser": None,
            "user": job.user,
            "workingDirectory": job.working_dir,
            "priority": job.priority,
        }

    @staticmethod
    def _state(job: Job) -> str:
        by = f" by {job.cancelled_by}" if job.cancelled_by is not None else ""
        return job.state + by

    @staticmethod
    def _tasks(job: Job, job_id: str, steps: Sequence[Step], now: float) -> list[Row]:
        if job.start is None:
            return []

        def row(number: int | str, step: Step) -> Row:
            # A step that was ended by a signal counts as cancelled, whoever sent the signal.
            if step.end is None:
                state = RUNNING
            elif number == "batch" and job.state == OUT_OF_MEMORY:
                state = OUT_OF_MEMORY
            elif step.signal:
                state = CANCELLED
            else:
                state = FAILED if step.exit_code else COMPLETED
            return {
                "id": f"{job_id}.{number}",
                "name": step.name,
                "status": _status(state, None, step.exit_code, step.signal),
                "time": _time(_elapsed(step.start, step.end, now), step.start, step.end, 0, None),
            }

        batch = Step("batch", job.start, job.end, job.exit_code, job.signal)
        return [row("batch", batch), *(row(number, step) for number, step in enumerate(steps))]
