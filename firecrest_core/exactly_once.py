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
import random
import re
import time
from asyncio import sleep
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from firecrest_core import claim, errors, submission
from firecrest_core.claim import CANCELLED, Claims, Key
from firecrest_core.client import FirecRESTClient
from firecrest_core.job import Job
from firecrest_core.jobspec import JobSpec, Scheduler
from firecrest_core.result import JobResult
from firecrest_core.states import JobState
from firecrest_core.waiting import Story
from firecrest_core.watcher import status, wait

__all__ = ["begin_epoch", "cancel", "owner", "resume", "settle", "start"]

log = logging.getLogger(__name__)

T = TypeVar("T")

# How long an outage is borne before the first contact, in seconds: an unhealthy system is found well again by the
# server's probe after 60 to 120 s. Once a job may exist, only the caller's own limit ends the patience.
PATIENCE = 300.0
# What stops a first contact is an outage later: a resolver or an identity provider that is down.
_OUTAGE = (errors.TransientError, errors.AuthenticationFailed, errors.HostNotFound, errors.TLSFailed)
# How long a claim may stay unseen that a compute node has made: NFS clients believe their cache for 60 s.
CACHED = 90.0
# Each lost race for a claim means that somebody began a generation meanwhile.
RACES = 20


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
    :raises TransientError: ``fresh``, and the server could not be reached at first contact, or was unhealthy for
        five minutes. Once a job may exist, an outage is waited out: giving up would orphan it.
    :raises AuthenticationFailed: at once if ``fresh``, else after five minutes, as ``HostNotFound`` and ``TLSFailed``
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
    claims = _ClaimDirectory(client, job.system, job.working_directory, key.identity)
    delays = _delays(CACHED)
    while True:
        seen = await _persist(claims.read, math.inf)
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
                if await _persist(partial(claims.take, key, f"job-{job.job_id}"), math.inf):
                    return result
            except errors.UserError as error:  # then none of the key's other jobs can claim either
                log.warning("%s: its claim cannot be made. %s", job, error)
                return result
        delay = next(delays, None)
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
    claims = _ClaimDirectory(client, system, working_dir, identity)
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
    live = await _persist(claims.live)
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
    await _ClaimDirectory(client, system, spec.working_dir, key.identity).end_older(key)
    return await start(client, system, spec, key, fresh=fresh)


async def _start(client: FirecRESTClient, system: str, spec: JobSpec, key: Key, *, fresh: bool, again: bool) -> Job:
    """Find or submit the job of a key.

    :param again: begin the next generation if the latest one has failed, whatever the key's own is
    """
    looks, posted = not fresh, False
    outage = _Outage(claim.own_name(spec), limit=math.inf if looks else PATIENCE)
    draft: _Draft | None = None
    while True:
        try:
            draft = draft or await _Draft.of(client, system, spec, key.identity)
            return await (draft.find_or_post(key, again=again) if looks else draft.post(key))
        except errors.SubmissionUnknown as error:
            # The job may exist. It is in the list within seconds; looking sooner submits it twice.
            looks, posted, outage.limit = True, True, math.inf
            await outage.endure(error)
        except _OUTAGE as error:
            # A wrong secret or host is told at once when nothing was tried before, later when it may be an outage.
            bearable = posted or (looks and outage.spent < PATIENCE)
            if not bearable and not isinstance(error, errors.TransientError):
                raise
            unreachable = isinstance(error, (errors.ServerUnreachable, errors.RequestTimedOut))
            if fresh and draft is None and unreachable:  # at first contact the URL may be wrong
                raise
            await outage.endure(error)


@dataclass(frozen=True)
class _ClaimDirectory:
    """The claims of one task on one system, and its jobs in the queue."""

    client: FirecRESTClient
    system: str
    working_dir: str
    identity: str

    async def read(self) -> Claims:
        try:
            entries = await self.client.ls(self.system, claim.home(self.working_dir, self.identity), recursive=True)
        except errors.RemotePathNotFound:
            entries = []
        return Claims.read(entries)

    async def take(self, key: Key, holder: str) -> bool:
        """Take a claim from outside; ``False`` where there is one, which may be this very call's lost answer.

        :raises RemotePathNotFound: the working directory does not exist
        """
        directory = key.directory(self.working_dir)
        for made in (False, True):
            try:
                await self.client.make_link(self.system, f"{directory}/{holder}", f"{directory}/claim")
                return True
            except errors.RemotePathExists:
                return False
            except errors.RemotePathNotFound:
                if made:
                    raise
            await submission.check_working_dir(self.client, self.system, self.working_dir)
            await self.client.make_directory(self.system, directory)
        raise AssertionError("the second round returns or raises")

    async def withdraw(self, epoch: int) -> Claims:
        """Take the claim that no job has yet for nobody.

        :returns: the claims, among them all that jobs of the epoch will ever have
        """
        delays = _delays(PATIENCE)
        for _ in range(RACES):
            seen = await _persist(self.read)
            latest = Key(self.identity, epoch, max(0, seen.latest(epoch)))
            if seen.holder(latest) == CANCELLED:
                return seen
            unclaimed = latest if seen.holder(latest) is None else latest.next_generation()
            if await _persist(partial(self.take, unclaimed, CANCELLED)):
                return seen
            await sleep(next(delays, 30.0))
        raise errors.ServerFault(
            f"{claim.home(self.working_dir, self.identity)} on {self.system}: each claim was taken before it could be "
            "cancelled. Cancel again."
        )

    async def end_older(self, key: Key) -> None:
        """Cancel what is left of older epochs, and wait until it has ended."""
        # First the directory, then the question for claims: the prologue does it the other way round, so either the
        # job sees that its epoch is over, or its claim is seen here.
        await _persist(partial(self.client.make_directory, self.system, key.directory(self.working_dir)))
        seen = await _persist(self.read)
        begun = seen.jobs(epoch for epoch in seen.epochs if epoch < key.epoch)
        live = await _persist(self.live)
        seen_alive = [job_id for (epoch, _), job_ids in live.items() if epoch < key.epoch for job_id in job_ids]
        older = list(dict.fromkeys([*begun, *seen_alive]))  # the second may run in another working directory
        await self.delete(older)
        for job_id in older:
            await _until_ended(self.client, Job(system=self.system, job_id=job_id))

    async def live(self) -> dict[tuple[int, int], list[str]]:
        """(epoch, generation) → the ids of its jobs that have not ended, the lowest first, as far as they are seen.

        The list is not filtered by the server: the user's part of the name may have changed between two tries.
        """
        found: dict[tuple[int, int], set[str]] = {}
        for row in await self.client.get_jobs(self.system):
            name = claim.read_name(row.name)
            if name is not None and name[0] == claim.fingerprint(self.identity) and not row.state.ended:
                # Of 17_[2-3] and 12+0 the job's own id; a running element of an array has a raw id of its own.
                found.setdefault(name[1:], set()).add(re.split(r"[_+\[.]", row.job_id)[0])
        return {key: sorted(ids, key=lambda job_id: (len(job_id), job_id)) for key, ids in found.items()}

    async def delete(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            await _persist(partial(self.client.cancel, self.system, job_id))


@dataclass(frozen=True)
class _Draft:
    """A specification on its way to the scheduler."""

    claims: _ClaimDirectory
    spec: JobSpec
    scheduler: Scheduler

    @classmethod
    async def of(cls, client: FirecRESTClient, system: str, spec: JobSpec, identity: str) -> _Draft:
        scheduler = await submission.scheduler_of(client, system)
        await submission.check_working_dir(client, system, spec.working_dir)
        if spec.script_path is not None:
            spec = await _with_text(client, system, spec, spec.script_path)
        return cls(_ClaimDirectory(client, system, spec.working_dir, identity), spec, scheduler)

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
            await _until_ended(client, Job(system=system, job_id=job_id))
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


async def _until_ended(client: FirecRESTClient, job: Job) -> None:
    """Wait for the end of a job that has been deleted."""
    while True:
        try:
            if (await _persist(partial(status, client, job), math.inf)).settled:
                return
        except errors.JobNotFound:  # too young for accounting, or forgotten long since
            if not await _persist(partial(client.cancel, job.system, job.job_id), math.inf):
                return
        await sleep(2.0)


async def _persist(request: Callable[[], Awaitable[T]], limit: float = PATIENCE) -> T:
    """Ask until there is an answer. What is asked for may have been done already by a request without one.

    :param limit: seconds; ``inf`` where a job is known to exist, so that whatever stops the contact is an outage
    """
    outage = _Outage("FirecREST", limit)
    while True:
        try:
            return await request()
        except _OUTAGE as error:
            if limit < math.inf and not isinstance(error, errors.TransientError):
                raise
            await outage.endure(error)


class _Outage:
    """Pauses between requests that fail, and words about them, both at growing intervals.

    :param limit: seconds of pauses after which the error is raised
    """

    def __init__(self, what: str, limit: float) -> None:
        self.limit = limit
        self._what = what
        self._delays = _delays(math.inf)
        self.spent = 0.0
        self._tell_at = 0.0

    async def endure(self, error: errors.FirecRESTError) -> None:
        if self.spent >= self.limit:
            raise error
        if self.spent >= self._tell_at:
            log.warning("%s: still trying. %s", self._what, error)
            self._tell_at = max(60.0, 2 * self.spent)
        delay = max(next(self._delays), getattr(error, "retry_after", None) or 0.0) * random.uniform(1.0, 1.25)
        self.spent += delay
        await sleep(delay)


def _delays(total: float) -> Iterator[float]:
    """Growing pauses in seconds that add up to ``total``."""
    delay, spent = 2.0, 0.0
    while spent < total:
        yield delay
        spent += delay
        delay = min(2 * delay, 30.0)
