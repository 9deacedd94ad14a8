"""Submitting, resuming and cancelling so that one payload runs for a key, whatever gets lost on the way.

:mod:`firecrest_core.claims.claim` says what a claim is. What is done with it::

    job = await submit(system, spec, key, first_attempt=True)     # one POST
    found = await find_owner(system, job, result)                 # which job ran, when this one has ended
    ...
    job = await submit(system, spec, key)                         # an automatic retry
    await cancel(system, working_dir, identity, epoch)            # a person wants no run
    await end_older(system, working_dir, newer_key)               # a person wants a new run

Each of them may be interrupted at any moment and called again. None of them needs to know what the one before has done:
everything that has to survive is in the claim directory.

A *generation* begins only when a job that failed holds the claim of the one before. So the first generation that has no
claim is the only one that may still get one. Taking it as ``cancelled`` ends the epoch.
"""

from __future__ import annotations

import logging
import math
import time
from asyncio import sleep
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from firecrest_core import errors
from firecrest_core.api.backoff import FIRST_CONTACT_LIMIT, OUTAGES, Backoff, delays, retry_transient
from firecrest_core.api.client import System
from firecrest_core.claims.bound_submission import BoundSubmission
from firecrest_core.claims.claim import CANCELLED
from firecrest_core.claims.directory import ClaimDirectory, wait_until_gone
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.jobs.status import read_status
from firecrest_core.jobs.submission import check_working_dir, job_from_submission, scheduler_paths
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec, Scheduler
from firecrest_core.states import JobState

log = logging.getLogger(__name__)

# How long a claim may stay unseen that a compute node has made: NFS clients believe their cache for 60 s.
CACHED = 90.0

# What only a FirecREST says, so that the URL is right.
_FAULTS = (errors.ServerFault, errors.RateLimited, errors.SystemUnhealthy)


async def submit(
    system: System, spec: JobSpec, key: ClaimKey, *, first_attempt: bool = False, resubmit_failed: bool = True
) -> Job:
    """Submit the job of a key, or find the one that was submitted: however often it is called, one payload runs.

    The returned job's ``key`` may have another generation than the one that was asked for: a later one that has
    begun already, or an earlier one whose claim is still to be had.

    :param spec: a ``script_path`` is read and sent as a script, since the prologue must be in it
    :param key: its generation is the one wanted: 0, or :meth:`~firecrest_core.jobs.key.ClaimKey.next_generation` of a
        job that has failed
    :param first_attempt: nobody has called this for the key's epoch before. Then it costs one POST (and, once for each
        client, the questions for the scheduler and the working directory). Otherwise it looks first, which costs a
        listing of files and the question for the state of the job that holds the claim; where no job does, a list of
        jobs.
    :param resubmit_failed: begin the next generation if the job of the latest one has failed, as an automatic retry
        wants it; ``False`` returns the job that failed
    :raises RemotePathNotFound: the working directory does not exist
    :raises SubmissionRejected: the scheduler refused it; no job of the key will run
    :raises JobWithdrawn: it was cancelled, or a later epoch has begun
    :raises TransientError: at the first attempt, where the server could not be reached at first contact, or answered
        nothing but faults for five minutes. An outage that comes later is waited out: giving up might orphan a job.
    :raises AuthenticationFailed: at first contact, at once in the first attempt, else after five minutes; so are
        ``HostNotFound`` and ``TLSFailed``
    """
    first_attempt = first_attempt and key.generation == 0
    look_first, limit = not first_attempt, math.inf if not first_attempt else FIRST_CONTACT_LIMIT
    backoff = Backoff()
    submission: _Submission | None = None
    while True:
        try:
            submission = submission or await _Submission.prepare(system, spec, key.identity)
            if look_first:
                return await submission.find_or_post(key, resubmit_failed=resubmit_failed and not first_attempt)
            return await submission.post(key)
        except errors.SubmissionUnknown as error:
            # The job may exist: look before submitting it once more.
            look_first, limit = True, math.inf
            await backoff.wait(error, spec.job_name())
        except OUTAGES as error:
            # At first contact the URL or the secret may be wrong; later, or in a retry, it is rather an outage.
            lasting = backoff.waited >= FIRST_CONTACT_LIMIT and not isinstance(error, errors.TransientError)
            if submission is not None:
                limit = math.inf
            elif lasting or (first_attempt and not isinstance(error, _FAULTS)):
                raise
            await backoff.wait(error, spec.job_name(), limit)


async def find_owner(system: System, job: Job, result: JobResult) -> Job | JobResult:
    """Return the result that counts, or the job to wait for instead: the payload may have run in another job.

    A job that failed before it could claim (it was not launched, or cancelled in the queue) gets the claim now: no
    other job of the key may run after its failure was reported. It costs one listing of files.

    :param result: how ``job`` ended
    :returns: CANCELLED for a job that ran nothing because its task was cancelled
    :raises ClaimMissing: it ended, but the claim is gone
    """
    key = job.key
    if key is None:
        return result
    claims = ClaimDirectory(system, job.working_dir, key.identity)
    pauses = delays(CACHED)
    while True:
        seen = await retry_transient(claims.read, math.inf)
        if seen.is_over(key.epoch):
            return replace(result, state=JobState.CANCELLED, reason="a newer run has begun")
        holder = seen.holder(key)
        if holder == CANCELLED:
            return replace(result, state=JobState.CANCELLED, reason="cancelled before it began")
        if holder == job.job_id:
            return result
        if holder is not None:
            log.info("%s ran nothing: job %s holds the claim.", job, holder)
            return await _another(system, job, holder)
        if not result.succeeded:
            try:
                if await retry_transient(partial(claims.take, key, f"job-{job.job_id}"), math.inf):
                    return result
            except errors.UserError as error:  # then none of the key's other jobs can claim either
                log.warning("%s: its claim cannot be made. %s", job, error)
                return result
        delay = next(pauses, None)
        if delay is None:
            raise errors.ClaimMissing(
                f"{job} on {job.system} ended {result.state}, but {key.directory(job.working_dir)} shows no "
                "claim, so nothing says whether it ran. Either the directory was removed while the job waited, or the "
                "compute nodes do not share it. Look at the job's output; working_dir must be on a shared file system."
            )
        await sleep(delay)


async def cancel(system: System, working_dir: str, identity: str, epoch: int) -> None:
    """Make sure that no job of an epoch runs any more, or ever.

    Cancelling what has ended, was cancelled or never began succeeds. A job that cannot be seen yet runs nothing
    when its turn comes. Costs a listing, one to four requests for the claim, a list of jobs, and a DELETE for
    each job.

    :raises FirecRESTError: when the claim cannot be made; the jobs that can be seen are deleted all the same
    """
    claims = ClaimDirectory(system, working_dir, identity)
    problem: errors.FirecRESTError | None = None
    begun: list[str] = []
    try:
        begun = (await claims.withdraw(epoch)).jobs([epoch])
    except errors.RemotePathNotFound:
        log.debug("%s does not exist: no job of %s can claim anything there.", working_dir, identity)
    except errors.FirecRESTError as error:  # a full disk must not keep alive the job that fills it
        problem = error
        with suppress(errors.FirecRESTError):
            begun = (await claims.read()).jobs([epoch])
    await claims.delete(begun)
    live = await retry_transient(claims.live)
    await claims.delete(job_id for (each, _), job_ids in live.items() if each == epoch for job_id in job_ids)
    if problem is not None:
        raise problem


async def end_older(system: System, working_dir: str, key: ClaimKey) -> None:
    """End what epochs before the key's left alive in a directory, and wait until it has ended.

    It returns when no payload of an older epoch runs any more and none can begin: a job ends some time after it was
    cancelled.

    :raises FirecRESTError: when the directory cannot be written or read
    """
    await ClaimDirectory(system, working_dir, key.identity).end_older(key)


@dataclass(frozen=True)
class _Submission:
    """A specification on its way to the scheduler."""

    claims: ClaimDirectory
    spec: JobSpec
    scheduler: Scheduler

    @classmethod
    async def prepare(cls, system: System, spec: JobSpec, identity: str) -> _Submission:
        scheduler = await system.scheduler()
        await check_working_dir(system, spec.working_dir)
        if spec.script_path is not None:
            spec = await _with_text(system, spec, spec.script_path)
        return cls(ClaimDirectory(system, spec.working_dir, identity), spec, scheduler)

    @property
    def system(self) -> System:
        return self.claims.system

    @property
    def name(self) -> str:
        return self.spec.job_name(self.scheduler)

    async def post(self, key: ClaimKey) -> Job:
        """Submit once."""
        bound = BoundSubmission.bind(self.spec, key, self.scheduler)
        submitted_at = time.time()
        job_id = await self.system.submit_job(bound.request(self.scheduler))
        return await self._job(bound, job_id, submitted_at)

    async def find_or_post(self, key: ClaimKey, *, resubmit_failed: bool) -> Job:
        """Return the job that holds the claim, else the first that may get it, else submit one."""
        seen = await self.claims.read()
        if seen.is_over(key.epoch):
            raise self._withdrawn("a newer run has begun")
        latest = replace(key, generation=max(0, seen.latest(key.epoch)))
        holder = seen.holder(latest)
        if holder == CANCELLED:
            raise self._withdrawn("it was cancelled")
        if holder is not None:
            if not (resubmit_failed or key.generation > latest.generation) or not await self._has_failed(holder):
                return await self._found(latest, holder)
            latest = latest.next_generation()
        live = (await self.claims.live()).get((latest.epoch, latest.generation))
        if live:
            return await self._found(latest, live[0])
        if latest.epoch > 0:  # whoever began this epoch may have died before the older ones had ended
            await self.claims.end_older(latest)
        try:
            return await self.post(latest)
        except errors.SubmissionRejected:
            # An earlier submission whose answer was lost may be in the queue all the same, or even be the reason: a
            # limit on submitted jobs. What is told to be rejected must not run later.
            if await self._withdraw(latest):
                raise
        return await self.find_or_post(latest, resubmit_failed=resubmit_failed)

    async def _has_failed(self, job_id: str) -> bool:
        """Whether a job has failed for good.

        The caller's word is not enough: the job that it saw fail may be another than the one that got the claim.
        """
        job = Job(system=self.system.name, job_id=job_id, array_indices=self.spec.array_indices)
        try:
            seen = await read_status(self.system, job)
        except errors.JobNotFound:
            return False
        if not (seen.all_ended and seen.complete) or seen.state is JobState.COMPLETED:
            return False
        # It may be on its way back into the queue: a job that failed with its node, for one.
        if await self.system.cancel_job(job_id):
            await wait_until_gone(self.system, job_id)
        return True

    async def _withdraw(self, key: ClaimKey) -> bool:
        try:
            return await self.claims.take(key, CANCELLED)
        except errors.UserError as error:  # what cannot be claimed from here, no job can claim
            log.debug("%s: the claim cannot be cancelled. %s", self.name, error)
            return True

    async def _found(self, key: ClaimKey, job_id: str) -> Job:
        return await self._job(BoundSubmission.bind(self.spec, key, self.scheduler), job_id, submitted_at=0.0)

    async def _job(self, bound: BoundSubmission, job_id: str, submitted_at: float) -> Job:
        return await job_from_submission(
            self.system, bound.spec, job_id, name=bound.name, submitted_at=submitted_at, key=bound.key
        )

    def _withdrawn(self, reason: str) -> errors.JobWithdrawn:
        return errors.JobWithdrawn(
            JobResult(
                job_id="",
                system=self.system.name,
                name=self.name,
                state=JobState.CANCELLED,
                reason=reason,
                working_dir=self.spec.working_dir,
            )
        )


async def _with_text(system: System, spec: JobSpec, path: str) -> JobSpec:
    """The specification with the text of its script on the cluster, so that a prologue can be put into it."""
    try:
        text = (await system.download_small(path)).decode()
        return replace(spec, script_path=None, script=text)
    except UnicodeDecodeError:
        raise errors.InvalidJobSpec("script_path", f"{path} on {system} is not text in UTF-8") from None
    except errors.InvalidJobSpec as error:
        raise errors.InvalidJobSpec("script_path", f"{path} on {system}: {error}") from None


async def _another(system: System, job: Job, job_id: str) -> Job:
    """Another job of the same key; its output is its own."""
    stdout, stderr = await scheduler_paths(system, job_id)
    return replace(job, job_id=job_id, stdout=stdout, stderr=stderr, submitted_at=0.0)
