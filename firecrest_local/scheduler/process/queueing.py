"""Decides which pending jobs may start: first come, first served, with backfilling."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Literal

from firecrest_local.scheduler.jobs.dependencies import Dependency
from firecrest_local.scheduler.jobs.job import COMPLETED, Job
from firecrest_local.scheduler.process.job_table import JobTable
from firecrest_local.settings import Settings

DependencyState = Literal["met", "waiting", "never"]


@dataclass(frozen=True)
class Decision:
    """The decision about a pending job.

    :param start: whether the job starts now.
    :param reason: why it stays pending: Slurm's reason.
    :param never: whether its dependencies can never be met.
    :param expected_start: Unix time at which it could start at the latest, if that is known.
    """

    start: bool = False
    reason: str = "None"
    never: bool = False
    expected_start: float | None = None


def condition_state(condition: Dependency, job: Job, jobs: JobTable) -> DependencyState:
    """Check one dependency against the known jobs. A dependency on an unknown job is met."""
    if condition.kind == "singleton":
        older = any(other.submitted < job.submitted for other in jobs.live_of_name(job.name))
        return "waiting" if older else "met"
    task_id = job.task_id if condition.kind == "aftercorr" else condition.task_id
    found = [] if condition.job_id is None else jobs.find(condition.job_id)
    targets = [target for target in found if task_id is None or target.task_id == task_id]
    if not targets:
        targets = [target for target in found if target.id == condition.job_id]
    ended = all(target.ended for target in targets)
    failed = any(target.ended and target.state != COMPLETED for target in targets)
    if condition.kind == "after":
        return "waiting" if any(target.pending for target in targets) else "met"
    if condition.kind in ("afterok", "aftercorr"):
        return "never" if failed else "met" if ended else "waiting"
    if condition.kind == "afternotok":
        return "waiting" if not ended else "met" if failed or not targets else "never"
    return "met" if ended else "waiting"


def dependency_state(job: Job, jobs: JobTable) -> DependencyState:
    """Check whether all (or, with `?`, any) of a job's dependencies are met."""
    states = [condition_state(condition, job, jobs) for condition in job.dependencies.conditions]
    if job.dependencies.any_of:
        states = ["met"] if "met" in states else ["waiting"] if "waiting" in states else ["never"]
    return "never" if "never" in states else "waiting" if "waiting" in states else "met"


def blocking_decision(job: Job, jobs: JobTable, settings: Settings, now: float) -> Decision | None:
    """Return the decision about a job that could not start even on an empty node; None if it could."""
    partition = next((one for one in settings.partitions if one.name == job.partition), None)
    if job.hold:
        return Decision(reason="JobHeldUser")
    if job.begin is not None and job.begin > now:
        return Decision(reason="BeginTime", expected_start=job.begin)
    if job.dependencies.conditions:
        state = dependency_state(job, jobs)
        if state != "met":
            never = state == "never"
            return Decision(reason="DependencyNeverSatisfied" if never else "Dependency", never=never)
    if partition is None:
        return Decision(reason="PartitionDown")
    if job.nodes > 1:
        return Decision(reason="PartitionNodeLimit")
    if job.limit is None or job.limit > partition.max_time:
        return Decision(reason="PartitionTimeLimit")
    return None


class SchedulingPass:
    """Decides about pending jobs, one after the other, oldest first.

    Once a job lacks free cores, a younger job starts only if it fits and will have ended when the older one could
    start. As long as no job starts, ends or is cancelled, the same pass can decide about new jobs: they are the
    youngest.

    :param jobs: all known jobs.
    :param settings: the cluster.
    :param now: the Unix time.
    :ivar next_begin: the earliest begin time for which a job waits.
    """

    def __init__(self, jobs: JobTable, settings: Settings, now: float) -> None:
        self._jobs = jobs
        self._settings = settings
        self._own_cores = {partition.name: partition.cores for partition in settings.partitions if partition.cores}
        self._free: dict[str, int] = defaultdict(lambda: settings.node_cores, self._own_cores)
        self._free_gpus = settings.gpus
        self._of_array: Counter[int] = Counter()
        #: For each pool: when the jobs that hold cores will have ended, and how many cores they hold.
        self._holding: dict[str, list[tuple[float, int]]] = defaultdict(list)
        #: For each pool: when its first job that lacks free cores could start at the latest.
        self._blocked_until: dict[str, float] = {}
        self.next_begin = math.inf
        for job in jobs.active.values():
            ends = math.inf if job.limit is None else (job.start or now) + job.limit
            self._hold(job, ends, len(job.gpu_ids))

    def decide(self, job: Job, now: float) -> Decision:
        """Decide about a pending job that is younger than those decided before."""
        blocking = blocking_decision(job, self._jobs, self._settings, now)
        if blocking is not None:
            if blocking.reason == "BeginTime" and job.begin is not None:
                self.next_begin = min(self.next_begin, job.begin)
            return blocking
        if job.array_id and job.throttle and self._of_array[job.array_id] >= job.throttle:
            return Decision(reason="JobArrayTaskLimit")
        pool = self._pool(job)
        ends = now + (job.limit or 0)
        fits = job.cpus <= self._free[pool] and job.gpus <= self._free_gpus
        if fits and ends <= self._blocked_until.get(pool, math.inf):
            self._hold(job, ends, job.gpus)
            return Decision(start=True)
        if pool in self._blocked_until:
            return Decision(reason="Priority")
        until = _cores_free_at(job.cpus, self._free[pool], self._holding[pool])
        self._blocked_until[pool] = until
        return Decision(reason="Resources", expected_start=until if now < until < math.inf else None)

    def _hold(self, job: Job, ends: float, gpus: int) -> None:
        pool = self._pool(job)
        self._holding[pool].append((ends, job.cpus))
        self._free[pool] -= job.cpus
        self._free_gpus -= gpus
        if job.array_id is not None:
            self._of_array[job.array_id] += 1

    def _pool(self, job: Job) -> str:
        """Return what a job takes its cores from: its partition, or for `""` the node."""
        return job.partition if job.partition in self._own_cores else ""


def _cores_free_at(cpus: int, free: int, holding: list[tuple[float, int]]) -> float:
    """Return when enough cores will be free, if every job uses its whole time limit."""
    for ends, held in sorted(holding):
        free += held
        if free >= cpus:
            return ends
    return math.inf
