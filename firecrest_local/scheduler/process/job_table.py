"""All jobs of the scheduler, with an index for each question that must not slow down with the number of jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from firecrest_local.scheduler.jobs.job import Job


class JobTable:
    """Finds jobs by their id, their array, their name and their state.

    :param jobs: the first jobs, in any order.
    :ivar by_id: all jobs by raw id.
    :ivar pending: the pending jobs by raw id, those first that are the first to start.
    :ivar live: the jobs that have not ended, by raw id.
    :ivar active: the jobs of which a process is left, by raw id.
    """

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self.by_id: dict[int, Job] = {}
        self.pending: dict[int, Job] = {}
        self.live: dict[int, Job] = {}
        self.active: dict[int, Job] = {}
        self._arrays: dict[int, list[Job]] = defaultdict(list)
        self._live_by_name: dict[str, dict[int, Job]] = defaultdict(dict)
        self._last_id = 0
        for job in sorted(jobs, key=lambda job: (job.array_id or job.id, job.task_id or 0)):
            self.add(job)

    @property
    def next_id(self) -> int:
        """The lowest id that is above all others."""
        return self._last_id + 1

    def add(self, job: Job) -> None:
        """Add a job that is younger than all others, or the next element of their youngest array."""
        self._last_id = max(self._last_id, job.id)
        self.by_id[job.id] = job
        if job.array_id is not None:
            self._arrays[job.array_id].append(job)
        self.update(job)

    def update(self, job: Job) -> None:
        """Index a job by its present state."""
        for jobs, holds in (
            (self.pending, job.pending),
            (self.live, not job.ended),
            (self._live_by_name[job.name], not job.ended),
            (self.active, not job.gone),
        ):
            if holds:
                jobs[job.id] = job
            else:
                jobs.pop(job.id, None)
        if not self._live_by_name[job.name]:
            del self._live_by_name[job.name]

    def find(self, job_id: int) -> list[Job]:
        """Return a job, or all elements of an array in their order; nothing if there is no such job."""
        if job_id in self._arrays:
            return self._arrays[job_id]
        return [self.by_id[job_id]] if job_id in self.by_id else []

    def live_of_name(self, name: str) -> Iterable[Job]:
        """Return the jobs of a name that have not ended, oldest first."""
        return self._live_by_name[name].values() if name in self._live_by_name else ()
