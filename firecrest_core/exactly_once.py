"""Submitting, resuming and cancelling so that one payload runs for a key, whatever gets lost on the way.

:mod:`firecrest_core.claim` says what a claim is. What is done with it::

    job = await start(client, system, spec, key, fresh=True)     # one POST
    result = await settle(client, job, await wait(client, job))  # what ran, if not this job
    ...
    job = await resume(client, system, spec, key)                # an automatic retry
    job = await begin_epoch(client, system, spec, newer_key)     # a person wants a new run
    await cancel(client, system, working_dir, identity, epoch)   # a person wants none

Each of them may be broken off at any moment and called again. None of them needs to know what the one before
has done: everything that has to survive is in the claim directory.

A *generation* begins only when a job that failed holds the claim of the one before. So the first generation that
has no claim is the only one that may still get one: who takes it for nobody (``cancelled``) ends the epoch.
"""

from __future__ import annotations

import logging
import math
import time
from asyncio import sleep
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from firecrest_core import claim, errors, submission
from firecrest_core.claim import CANCELLED, Key
from firecrest_core.claim_directory import ClaimDirectory, until_ended
from firecrest_core.client import FirecRESTClient
from firecrest_core.job import Job
from firecrest_core.jobspec import JobSpec, Scheduler
from firecrest_core.outage import OUTAGES, PATIENCE, Patience, delays, persist
from firecrest_core.result import JobResult
from firecrest_core.states import JobState
from firecrest_core.waiting import Story
from firecrest_core.watcher import status, wait

__all__ = ["begin_epoch", "cancel", "end_older", "owner", "resume", "settle", "start"]

log = logging.getLogger(__name__)

# How long a claim may stay unseen that a compute node has made: NFS clients believe their cache for 60 s.
CACHED = 90.0

# What only a FirecREST says, so that the URL is right.
_FAULTS = (errors.ServerFault, errors.RateLimited, errors.SystemUnhealthy)


async def start(client: FirecRESTClient, system: str, spec: JobSpec, key: Key, *, fresh: bool = False) -> Job:
    """Submit the job of a key, or find the one that was submitted: however often it is called, one payload runs.

    The returned job's ``key`` may have another generation than the one that was asked for: a later one that has
    begun already, or an earlier one whose claim is still to be had.

    :param spec: a ``script_path`` is read and sent as a script, since the prologue must be in it
    :param key: its generation is the one wanted: 0, or :meth:`~firecrest_core.claim.Key.next_generation` of a
        job that has failed
    :param fresh: nobody has called this for the key's epoch before. Then it costs one POST (and, once for each
        client, the questions for the scheduler and the working directory); else it looks first, which costs a
        listing of files and, where there is no claim, a list of jobs.
    :raises RemotePathNotFound: the working directory does not exist
    :raises SubmissionRejected: the scheduler refused it; no job of the key will run
    :raises JobWithdrawn: it was cancelled, or a later epoch has begun
    :raises TransientError: ``fresh``, and the server could not be reached at first contact, or had nothing but faults
        to tell for five minutes. An outage that comes later is waited out: giving up might orphan a job.
    :raises AuthenticationFailed: at first contact, at once if ``fresh``, else after five minutes; so are
        ``HostNotFound`` and ``TLSFailed``
    """
    return await _start(client, system, spec, key, fresh=fresh and key.generation == 0, again=False)


async def resume(client: FirecRESTClient, system: str, spec: JobSpec, key: Key) -> Job:
    """Do what an automatic retry is for: go on with the job that is alive or ended well, else run it once more.

    Costs a listing of files and the question for the state of the job that holds the claim; where no job does, a list
    of jobs.

    :raises FirecRESTError: as :func:`start` does
    """
    return await _start(client, system, spec, key, fresh=False, again=True)


async def settle(
    client: FirecRESTClient,
    job: Job,
    result: JobResult,
    *,
    poll_interval: float = 10.0,
    timeout: float | None = None,
    story: Story | None = None,
) -> JobResult:
    """Return how the payload ended, which another job may have run than the one that was waited for.

    Costs one listing of files, and the waiting for the other job.

    :param result: how ``job`` ended
    :param poll_interval: seconds, as in :func:`~firecrest_core.waiting.wait`
    :param timeout: seconds after which to give up waiting for the other job
    :returns: CANCELLED for a job that ran nothing because its task was cancelled
    :raises ClaimMissing: it ended, but the claim is gone
    :raises WaitTimedOut: after ``timeout``
    """
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        found = await owner(client, job, result)
        if isinstance(found, JobResult):
            return found
        job = found
        left = None if until is None else max(0.0, until - time.monotonic())
        result = await wait(client, job, poll_interval=poll_interval, timeout=left, story=story)


async def owner(client: FirecRESTClient, job: Job, result: JobResult) -> Job | JobResult:
    """One step of :func:`settle`: the job to wait for instead, or the result that counts.

    A job that failed before it could claim (it was not launched, or cancelled in the queue) gets the claim now:
    no other job of the key may run after its failure was told.
    """
    key = job.key
    if key is None:
        return result
    claims = ClaimDirectory(client, job.system, job.working_directory, key.identity)
    pauses = delays(CACHED)
    while True:
        seen = await persist(claims.read, math.inf)
        if seen.is_over(key.epoch):
            return replace(result, state=JobState.CANCELLED, reason="a newer run has begun")
        holder = seen.holder(key)
        if holder == CANCELLED:
            return replace(result, state=JobState.CANCELLED, reason="cancelled before it began")
        if holder == job.job_id:
            return result
        if holder is not None:
            log.info("%s ran nothing: job %s holds the claim.", job, holder)
            return await _another(client, job, holder)
        if not result.succeeded:
            try:
                if await persist(partial(claims.take, key, f"job-{job.job_id}"), math.inf):
                    return result
            except errors.UserError as error:  # then none of the key's other jobs can claim either
                log.warning("%s: its claim cannot be made. %s", job, error)
                return result
        delay = next(pauses, None)
        if delay is None:
            raise errors.ClaimMissing(
                f"{job} on {job.system} ended {result.state}, but {key.directory(job.working_directory)} shows no "
                "claim, so nothing says whether it ran. Either the directory was removed while the job waited, or the "
                "compute nodes do not share it. Look at the job's output; working_dir must be on a shared file system."
            )
        await sleep(delay)


async def cancel(client: FirecRESTClient, system: str, working_dir: str, identity: str, epoch: int) -> None:
    """See to it that no job of the epoch runs any more, or ever.

    Cancelling what has ended, was cancelled or never began succeeds. A job that cannot be seen yet runs nothing
    when its turn comes. Costs a listing, one to four requests for the claim, a list of jobs, and a DELETE for
    each job.

    :raises FirecRESTError: when the claim cannot be made; the jobs that can be seen are deleted all the same
    """
    claims = ClaimDirectory(client, system, working_dir, identity)
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
    live = await persist(claims.live)
    await claims.delete(job_id for (each, _), job_ids in live.items() if each == epoch for job_id in job_ids)
    if problem is not None:
        raise problem


async def begin_epoch(client: FirecRESTClient, system: str, spec: JobSpec, key: Key, *, fresh: bool = False) -> Job:
    """End what older epochs of the task left alive, then :func:`start` this one.

    It returns when no payload of an older epoch runs any more and none can begin: a job ends some time after it
    is told to.

    :param fresh: nobody has called this for the key's epoch before
    :raises FirecRESTError: as :func:`start` does
    """
    await submission.check_working_dir(client, system, spec.working_dir)
    await end_older(client, system, spec.working_dir, key)
    return await start(client, system, spec, key, fresh=fresh)


async def end_older(client: FirecRESTClient, system: str, working_dir: str, key: Key) -> None:
    """End what epochs before the key's left alive in a directory, and wait until it has ended.

    For a task whose new epoch runs on another system or in another directory; :func:`begin_epoch` does it by itself.

    :raises FirecRESTError: when the directory cannot be written or read
    """
    await ClaimDirectory(client, system, working_dir, key.identity).end_older(key)


async def _start(client: FirecRESTClient, system: str, spec: JobSpec, key: Key, *, fresh: bool, again: bool) -> Job:
    """Find or submit the job of a key.

    :param again: begin the next generation if the latest one has failed, whatever the key's own is
    """
    looks = not fresh
    patience = Patience(claim.own_name(spec), limit=math.inf if looks else PATIENCE)
    draft: _Draft | None = None
    while True:
        try:
            draft = draft or await _Draft.of(client, system, spec, key.identity)
            return await (draft.find_or_post(key, again=again) if looks else draft.post(key))
        except errors.SubmissionUnknown as error:
            # The job may exist: look before submitting it once more.
            looks = True
            patience.limit = math.inf
            await patience.endure(error)
        except OUTAGES as error:
            # At first contact the URL or the secret may be wrong; later, or in a retry, it is rather an outage.
            lasting = patience.spent >= PATIENCE and not isinstance(error, errors.TransientError)
            if draft is not None:
                patience.limit = math.inf
            elif lasting or (fresh and not isinstance(error, _FAULTS)):
                raise
            await patience.endure(error)


@dataclass(frozen=True)
class _Draft:
    """A specification on its way to the scheduler."""

    claims: ClaimDirectory
    spec: JobSpec
    scheduler: Scheduler

    @classmethod
    async def of(cls, client: FirecRESTClient, system: str, spec: JobSpec, identity: str) -> _Draft:
        scheduler = await submission.scheduler_of(client, system)
        await submission.check_working_dir(client, system, spec.working_dir)
        if spec.script_path is not None:
            spec = await _with_text(client, system, spec, spec.script_path)
        return cls(ClaimDirectory(client, system, spec.working_dir, identity), spec, scheduler)

    @property
    def name(self) -> str:
        return claim.own_name(self.spec, self.scheduler)

    async def post(self, key: Key) -> Job:
        """Submit once."""
        bound, prologue = claim.bind(self.spec, key, self.scheduler)
        submitted_at = time.time()
        request = bound.request(self.scheduler, prologue=prologue)
        return await self._job(key, await self.claims.client.submit_job(self.claims.system, request), submitted_at)

    async def find_or_post(self, key: Key, *, again: bool) -> Job:
        """Return the job that holds the claim, else the first that may get it, else submit one."""
        seen = await self.claims.read()
        if seen.is_over(key.epoch):
            raise self._withdrawn("a newer run has begun")
        latest = replace(key, generation=max(0, seen.latest(key.epoch)))
        holder = seen.holder(latest)
        if holder == CANCELLED:
            raise self._withdrawn("it was cancelled")
        if holder is not None:
            if not (again or key.generation > latest.generation) or not await self._has_failed(holder):
                return await self._job(latest, holder)
            latest = latest.next_generation()
        live = (await self.claims.live()).get((latest.epoch, latest.generation))
        if live:
            return await self._job(latest, live[0])
        if latest.epoch > 0:  # whoever began this epoch may have died before the older ones had ended
            await self.claims.end_older(latest)
        try:
            return await self.post(latest)
        except errors.SubmissionRejected:
            # An earlier submission whose answer was lost may be in the queue all the same, or even be the reason: a
            # limit on submitted jobs. What is told to be rejected must not run later.
            if await self._withdraw(latest):
                raise
        return await self.find_or_post(latest, again=again)

    async def _has_failed(self, job_id: str) -> bool:
        """Whether a job has failed for good.

        The caller's word is not enough: the job that it saw fail may be another than the one that got the claim.
        """
        client, system = self.claims.client, self.claims.system
        try:
            seen = await status(client, Job(system=system, job_id=job_id, array_indices=self.spec.array_indices))
        except errors.JobNotFound:
            return False
        if not (seen.settled and seen.complete) or seen.state is JobState.COMPLETED:
            return False
        # It may be on its way back into the queue: a job that failed with its node, for one.
        if await client.cancel(system, job_id):
            await until_ended(client, Job(system=system, job_id=job_id))
        return True

    async def _withdraw(self, key: Key) -> bool:
        try:
            return await self.claims.take(key, CANCELLED)
        except errors.UserError as error:  # what cannot be claimed from here, no job can claim
            log.debug("%s: the claim cannot be cancelled. %s", self.name, error)
            return True

    async def _job(self, key: Key, job_id: str, submitted_at: float = 0.0) -> Job:
        bound, _ = claim.bind(self.spec, key, self.scheduler)
        return await submission.describe(
            self.claims.client,
            self.claims.system,
            bound,
            job_id,
            name=self.name,
            submitted_at=submitted_at,
            key=key,
        )

    def _withdrawn(self, reason: str) -> errors.JobWithdrawn:
        return errors.JobWithdrawn(
            JobResult(
                job_id="",
                system=self.claims.system,
                name=self.name,
                state=JobState.CANCELLED,
                reason=reason,
                working_directory=self.spec.working_dir,
            )
        )


async def _with_text(client: FirecRESTClient, system: str, spec: JobSpec, path: str) -> JobSpec:
    """The specification with the text of its script on the cluster, so that a prologue can be put into it."""
    try:
        text = (await client.get_small(system, path)).decode()
        return replace(spec, script_path=None, script=text)
    except UnicodeDecodeError:
        raise errors.InvalidJobSpec("script_path", f"{path} on {system} is not text in UTF-8") from None
    except errors.InvalidJobSpec as error:
        raise errors.InvalidJobSpec("script_path", f"{path} on {system}: {error}") from None


async def _another(client: FirecRESTClient, job: Job, job_id: str) -> Job:
    """Another job of the same key; its output is its own."""
    stdout, stderr = await submission.scheduler_paths(client, job.system, job_id)
    return replace(job, job_id=job_id, stdout=stdout, stderr=stderr, submitted_at=0.0)
