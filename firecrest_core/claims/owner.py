"""The owner of a key: the job that holds its claim, which may be another one than the job that was waited for."""

from __future__ import annotations

import logging
import math
from asyncio import sleep
from dataclasses import replace
from functools import partial

from firecrest_core import errors
from firecrest_core.api.backoff import delays, retry_transient
from firecrest_core.api.client import System
from firecrest_core.claims.claim import CACHED, CANCELLED, Claims
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.jobs.submission import scheduler_paths
from firecrest_core.result import JobResult
from firecrest_core.states import JobState

log = logging.getLogger(__name__)


async def find_owner(system: System, job: Job, result: JobResult) -> Job | JobResult:
    """Find the job that holds the claim after a job of the key has ended, because the payload may run in another job.

    A job that failed before it could claim (it was not launched, or was cancelled in the queue) gets the claim now, so
    that no other job of the key runs after its failure was reported. This costs one listing of files, and a request for
    what the job has used if its meter has written that down.

    :param system: where the job is
    :param job: the job that has ended
    :param result: how it ended
    :returns: the result to report, or the other job to wait for. The result is CANCELLED for a job that ran nothing
        because its task was cancelled or a newer epoch has begun.
    :raises ClaimMissing: the job ended, but there is no claim
    """
    key = job.key
    if key is None:
        return result
    claims = ClaimDirectory(system, job.working_dir, key.identity)
    pauses = delays(CACHED)
    while True:
        found = await retry_transient(claims.read, math.inf)
        owner = await _owner(claims, found, job, key, result)
        if isinstance(owner, JobResult):
            await claims.remove_secrets(found, lambda *of: of <= (key.epoch, key.generation))
            if found.holder(key) == job.job_id:
                owner = replace(owner, usage=await claims.usage(found, key))
            if job.completed_indices:
                owner = owner.with_completed(job.completed_indices)
        if owner is not None:
            return owner
        delay = next(pauses, None)
        if delay is None:
            raise errors.ClaimMissing(
                f"{job} on {job.system} ended {result.state}, but {key.directory(job.working_dir)} shows no "
                "claim, so nothing says whether it ran. Either the directory was removed while the job waited, or the "
                "compute nodes do not share it. Check the job's output; working_dir must be on a shared file system."
            )
        await sleep(delay)


async def _owner(
    claims: ClaimDirectory, found: Claims, job: Job, key: ClaimKey, result: JobResult
) -> Job | JobResult | None:
    """Do a round of :func:`find_owner`; ``None`` if nothing is known yet."""
    if found.has_newer_epoch(key.epoch):
        return replace(result, state=JobState.CANCELLED, reason="a newer run has begun")
    holder = found.holder(key)
    if holder == CANCELLED:
        return replace(result, state=JobState.CANCELLED, reason="cancelled before it began")
    if holder == job.job_id:
        return result
    if (place := found.place(key)) is not None:  # of a race across file systems
        there = claims.at(place)
        holder = (await retry_transient(there.read, math.inf)).holder(key)
        if holder is None:
            return None
        if holder == CANCELLED:
            return replace(result, state=JobState.CANCELLED, reason="nobody let it begin in time")
        elsewhere = replace(job, system=place.system, working_dir=place.working_dir)
        return await other_job(there.system, elsewhere, holder)
    if holder is not None:
        log.info("%s ran nothing: job %s holds the claim.", job, holder)
        return await other_job(claims.system, job, holder)
    if not result.succeeded:
        try:
            if await retry_transient(partial(claims.take, key, f"job-{job.job_id}"), math.inf):
                return result
        except errors.UserError as error:  # the key's other jobs cannot make the claim either
            log.warning("%s: its claim cannot be made. %s", job, error)
            return result
    return None


async def other_job(system: System, job: Job, job_id: str) -> Job:
    """Return another job of the same key, with its own output paths.

    :param system: where they are
    :param job: a job
    :param job_id: the id of the other one
    """
    stdout, stderr = await scheduler_paths(system, job_id)
    return replace(job, job_id=job_id, stdout=stdout, stderr=stderr, submitted_at=0.0, rivals=())
