"""Decides which pending jobs may start: first come, first served, with backfilling."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from firecrest_local.scheduler.jobs.dependencies import Dependency
from firecrest_local.scheduler.jobs.job import COMPLETED, Job
from firecrest_local.settings import Settings

DependencyState = Literal["met", "waiting", "never"]


@dataclass(frozen=True)
class Decision:
    """The decision about a pending job.

    :param start: whether the job starts now.
    :param reason: why it stays pending: Slurm's reason.
    :param never: whether its dependencies can never be met.
    """

    start: bool = False
    reason: str = "None"
    never: bool = False


def condition_state(condition: Dependency, job: Job, jobs: Mapping[int, Job]) -> DependencyState:
    """Check one dependency against the known jobs. A dependency on an unknown job is met."""
    if condition.kind == "singleton":
        older = [
            other
            for other in jobs.values()
            if other.name == job.name and not other.ended and other.submitted < job.submitted
        ]
        return "waiting" if older else "met"
    task_id = job.task_id if condition.kind == "aftercorr" else condition.task_id
    targets = [other for other in jobs.values() if other.array_id == condition.job_id]
    targets = [target for target in targets if task_id is None or target.task_id == task_id]
    if not targets:
        targets = [other for other in jobs.values() if other.id == condition.job_id]
    ended = all(target.ended for target in targets)
    failed = any(target.ended and target.state != COMPLETED for target in targets)
    if condition.kind == "after":
        return "waiting" if any(target.pending for target in targets) else "met"
    if condition.kind in ("afterok", "aftercorr"):
        return "never" if failed else "met" if ended else "waiting"
    if condition.kind == "afternotok":
        return "waiting" if not ended else "met" if failed or not targets else "never"
    return "met" if ended else "waiting"


def dependency_state(job: Job, jobs: Mapping[int, Job]) -> DependencyState:
    """Check whether all (or, with `?`, any) of a job's dependencies are met."""
    states = [condition_state(condition, job, jobs) for condition in job.dependencies.conditions]
    if job.dependencies.any_of:
        states = ["met"] if "met" in states else ["waiting"] if "waiting" in states else ["never"]
    return "never" if "never" in states else "waiting" if "waiting" in states else "met"


def blocking_decision(job: Job, jobs: Mapping[int, Job], settings: Settings, now: float) -> Decision | None:
    """Return the decision about a job that could not start even on an empty node; None if it could."""
    partition = next((one for one in settings.partitions if one.name == job.partition), None)
    if job.hold:
        return Decision(reason="JobHeldUser")
    if job.begin is not None and job.begin > now:
        return Decision(reason="BeginTime")
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


def decide(jobs: Mapping[int, Job], settings: Settings, now: float) -> list[tuple[Job, Decision]]:
    """Decide about every pending job, oldest first.

    Once a job lacks free cores, a younger job starts only if it fits and will have ended when the older one could
    start.

    :param jobs: all known jobs by id.
    :param settings: the cluster.
    :param now: the Unix time.
    """
    own_cores = {partition.name: partition.cores for partition in settings.partitions if partition.cores}
    holding: dict[str, list[tuple[float, int]]] = defaultdict(list)
    of_array: Counter[int] = Counter()
    free_gpus = settings.gpus
    for job in jobs.values():
        if job.gone:
            continue
        pool = job.partition if job.partition in own_cores else ""
        ends = math.inf if job.limit is None else (job.start or now) + job.limit
        holding[pool].append((ends, job.cpus))
        free_gpus -= len(job.gpu_ids)
        if job.array_id is not None:
            of_array[job.array_id] += 1
    decisions: list[tuple[Job, Decision]] = []
    # For each pool: when its first job that lacks free cores could start at the latest.
    blocked_until: dict[str, float] = {}
    order = sorted(
        (job for job in jobs.values() if job.pending),
        key=lambda job: (job.array_id or job.id, job.task_id or 0),
    )
    for job in order:
        blocking = blocking_decision(job, jobs, settings, now)
        if blocking is None and job.array_id and job.throttle and of_array[job.array_id] >= job.throttle:
            blocking = Decision(reason="JobArrayTaskLimit")
        if blocking is not None:
            decisions.append((job, blocking))
            continue
        pool = job.partition if job.partition in own_cores else ""
        capacity = own_cores.get(pool) or settings.node_cores
        free = capacity - sum(cpus for _, cpus in holding[pool])
        ends = now + (job.limit or 0)
        fits = job.cpus <= free and job.gpus <= free_gpus
        if fits and ends <= blocked_until.get(pool, math.inf):
            holding[pool].append((ends, job.cpus))
            free_gpus -= job.gpus
            if job.array_id is not None:
                of_array[job.array_id] += 1
            decisions.append((job, Decision(start=True)))
        elif pool in blocked_until:
            decisions.append((job, Decision(reason="Priority")))
        else:
            blocked_until[pool] = _cores_free_at(job.cpus, free, holding[pool])
            decisions.append((job, Decision(reason="Resources")))
    return decisions


def _cores_free_at(cpus: int, free: int, holding: list[tuple[float, int]]) -> float:
    """Return when enough cores will be free, if every job uses its whole time limit."""
    for ends, held in sorted(holding):
        free += held
        if free >= cpus:
            return ends
    return math.inf
