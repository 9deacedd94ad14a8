"""The claim protocol: submit, resume and cancel so that one payload runs for a key, even if answers are lost.

:mod:`firecrest_core.claims.claim` explains the claim. It is used like this::

    job = await submit(system, spec, key, first_attempt=True)     # one POST
    found = await find_owner(system, job, result)                 # when it has ended (see firecrest_core.claims.owner)
    ...
    job = await submit(system, spec, key)                         # an automatic retry
    await cancel(system, working_dir, identity, epoch)            # a person cancels the run
    await end_older(system, working_dir, newer_key)               # a person starts a new run

Each of these may be interrupted at any moment and called again. All state that must survive is in the claim directory,
so no call needs to know what the previous one has done.

A *generation* begins only when a job that has ended holds the claim of the generation before: it has failed, or its
directory says why another job follows. So only the first generation without a claim may still get one. Taking that
claim as ``cancelled`` ends the epoch. A job of a generation that has not begun may wait in the queue (see
:mod:`firecrest_core.claims.ahead`).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from firecrest_core import errors
from firecrest_core.api.backoff import FIRST_CONTACT_LIMIT, OUTAGES, Backoff, retry_transient
from firecrest_core.api.client import System
from firecrest_core.claims.bound_submission import BoundSubmission
from firecrest_core.claims.claim import CANCELLED, Claims
from firecrest_core.claims.directory import ClaimDirectory, wait_until_gone
from firecrest_core.claims.gate import decide
from firecrest_core.claims.secret_file import SecretFile, written
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.jobs.partition import choose_partition
from firecrest_core.jobs.status import read_status
from firecrest_core.jobs.submission import check_working_dir, job_from_submission, with_text
from firecrest_core.result import JobResult
from firecrest_core.spec.alternatives import Alternatives
from firecrest_core.spec.jobspec import JobSpec, Scheduler
from firecrest_core.states import JobState
from firecrest_core.stopped_elements import stopped_before

log = logging.getLogger(__name__)

# Answers that only a FirecREST gives, so the URL must be right.
_FAULTS = (errors.ServerFault, errors.RateLimited, errors.SystemUnhealthy)


BeforePost = Callable[[], Awaitable[None]]

Adjust = Callable[[JobSpec, Scheduler, Sequence[str]], JobSpec]
"""Returns the specification of a generation: from the first one's, whose script is read, from what runs it, and from
what was written down of the generations before, the oldest first."""


def unchanged(spec: JobSpec, scheduler: Scheduler, causes: Sequence[str]) -> JobSpec:
    """Return the same specification for each generation."""
    return spec


async def submit(
    system: System,
    spec: JobSpec,
    key: ClaimKey,
    *,
    first_attempt: bool = False,
    resubmit_failed: bool = True,
    before_post: BeforePost | None = None,
    adjust: Adjust = unchanged,
    alternatives: Alternatives | None = None,
) -> Job:
    """Submit the job of a key, or find the one that was submitted. One payload runs, however often this is called.

    The ``key`` of the returned job may have another generation than ``key``: a later one that has already begun, or an
    earlier one whose claim is still free.

    A first attempt costs one POST and, once for each client, the requests for the scheduler's type and the working
    directory. Any other attempt searches for an earlier job first. That costs a listing of files and a status query for
    the job that holds the claim, or a list of jobs if no job holds it.

    :param system: where to submit it
    :param spec: the job; a ``script_path`` is read and sent as a script, because the prologue must be in it
    :param key: with generation 0, or with :meth:`~firecrest_core.jobs.key.ClaimKey.next_generation` after a job that
        has failed
    :param first_attempt: this is the first call for the key's epoch
    :param resubmit_failed: begin the next generation if the job of the latest one has failed, as an automatic retry
        needs it; with ``False``, the failed job is returned
    :param before_post: awaited before each POST that submits the job, when nothing else is left that could prevent it
    :param adjust: makes the specification of a generation
    :param alternatives: the shapes that are submitted in the place of the one of ``spec``. What one try finds alive, it
        goes on with, and it submits no further ones. The scheduler may refuse some of them, but not all.
    :raises RemotePathNotFound: the working directory does not exist
    :raises SubmissionRejected: the scheduler refused the job; no job of the key will run
    :raises SubmissionLimitReached: no job was taken now; an earlier one, whose answer was lost, may be in the queue
    :raises JobWithdrawn: the key was cancelled, or a later epoch has begun
    :raises TransientError: only in a first attempt: the server could not be reached at first contact, or only answered
        with faults for five minutes. After the first contact retries have no limit, because giving up might orphan a
        job.
    :raises AuthenticationFailed: the token was refused at first contact. A first attempt raises this at once, any other
        after five minutes. The same holds for ``HostNotFound`` and ``TLSFailed``, and for answers that are not
        FirecREST's own.
    """
    first_attempt = first_attempt and key.generation == 0
    find_first, limit = not first_attempt, math.inf if not first_attempt else FIRST_CONTACT_LIMIT
    backoff = Backoff()
    submission: Submission | None = None
    while True:
        try:
            submission = submission or await Submission.prepare(
                system, spec, key.identity, before_post, adjust, alternatives
            )
            if find_first:
                return await submission.find_or_post(key, resubmit_failed=resubmit_failed and not first_attempt)
            return await submission.post(key, Claims({}, frozenset()))
        except errors.SubmissionUnknown as error:
            # The job may exist, so search for it before submitting it once more.
            find_first, limit = True, math.inf
            if submission is not None and submission.posted is not None:
                # It may have failed by now, and whoever retries that has to see first what was done in it.
                key, resubmit_failed = submission.posted, False
            await backoff.wait(error, spec.job_name())
        except OUTAGES as error:
            # At first contact, the URL or the secret may be wrong. Later, or in a retry, an outage is more likely.
            lasting = backoff.waited >= FIRST_CONTACT_LIMIT and _may_be_a_mistake(error)
            if submission is not None:
                limit = math.inf
            elif lasting or (first_attempt and not isinstance(error, _FAULTS)):
                raise
            await backoff.wait(error, spec.job_name(), limit)


async def cancel(system: System, working_dir: str, identity: str, epoch: int) -> None:
    """Cancel an epoch: its jobs are cancelled, and no other job of it will run.

    It is no error if the jobs have ended, were cancelled or never began. A job that is not listed yet will run nothing
    when it starts. This costs a listing of files, one to four requests for the claim, a list of jobs, and a DELETE for
    each job.

    :param system: where the jobs are
    :param working_dir: absolute path of their working directory
    :param identity: the task's identity
    :param epoch: the epoch to cancel
    :raises FirecRESTError: the claim cannot be made; the jobs that are listed are cancelled all the same
    """
    claims = ClaimDirectory(system, working_dir, identity)
    holders, problem = await claims.close(epoch)
    await claims.delete(holders)
    live = await retry_transient(claims.live)
    await claims.delete(job_id for (each, _), job_ids in live.items() if each == epoch for job_id in job_ids)
    if problem is not None:
        raise problem


async def end_older(system: System, working_dir: str, key: ClaimKey) -> None:
    """Cancel all jobs of epochs before the key's, and wait until they have ended.

    A job ends some time after it was cancelled. When this returns, no payload of an older epoch runs and none can
    begin.

    :param system: where the jobs are
    :param working_dir: absolute path of their working directory
    :param key: a key of the current epoch
    :raises FirecRESTError: the directory cannot be written or read
    """
    await ClaimDirectory(system, working_dir, key.identity).end_older(key)


@dataclass
class Submission:
    """The submission of one specification, with what its attempts have in common.

    The parameters are those of :func:`submit`, with the claims that they have led to.

    :param posted: the key of the last attempt that was sent
    """

    claims: ClaimDirectory
    spec: JobSpec
    scheduler: Scheduler
    before_post: BeforePost | None
    adjust: Adjust
    alternatives: Alternatives | None
    posted: ClaimKey | None = None

    @classmethod
    async def prepare(
        cls,
        system: System,
        spec: JobSpec,
        identity: str,
        before_post: BeforePost | None = None,
        adjust: Adjust = unchanged,
        alternatives: Alternatives | None = None,
    ) -> Submission:
        """Return the submission of a task's job; a ``script_path`` is read.

        :param system: where to submit it
        :param spec: the job, as for :func:`submit`
        :param identity: the task's
        :param before_post: as for :func:`submit`, as the following ones are
        """
        scheduler = await system.scheduler()
        await check_working_dir(system, spec.working_dir)
        if spec.script_path is not None:
            spec = await with_text(system, spec, spec.script_path)
        claims = ClaimDirectory(system, spec.working_dir, identity)
        return cls(claims, spec, scheduler, before_post, adjust, alternatives)

    @property
    def system(self) -> System:
        """Where to submit it."""
        return self.claims.system

    @property
    def name(self) -> str:
        """The user's name for the job."""
        return self.spec.job_name(self.scheduler)

    def _spec_of(self, key: ClaimKey, found: Claims) -> JobSpec:
        return self.adjust(self.spec, self.scheduler, found.causes_before(key))

    async def post(self, key: ClaimKey, found: Claims) -> Job:
        """Submit once, or each alternative once."""
        self.posted = key
        spec = self._spec_of(key, found)
        if self.alternatives is None:
            return await self._post(spec, key, found)
        taken: list[Job] = []
        failed: list[errors.FirecRESTError] = []
        for shape in self.alternatives.of(spec):
            post = partial(self._post, shape, key, found)
            try:
                taken.append(await (retry_transient(post, math.inf) if taken else post()))
            except (
                errors.SubmissionRejected,
                errors.SubmissionLimitReached,
                errors.SubmissionUnknown,  # if it exists, it is found by its name, and runs only if it begins first
                errors.InvalidJobSpec,
            ) as error:
                failed.append(error)
        if not taken:  # without an answer, one of them may exist
            raise min(failed, key=lambda one: not isinstance(one, errors.SubmissionUnknown))
        for refusal in failed:
            log.warning("%s: the scheduler did not take an alternative, and the others go on. %s", self.name, refusal)
        return replace(taken[0], rivals=tuple(job.job_id for job in taken[1:]))

    async def post_ahead(self, key: ClaimKey, holder: str, found: Claims) -> str:
        """Submit what follows a job that runs, if the end of that one changes nothing.

        :param key: of the job that runs
        :param holder: its id
        :param found: the claims
        :returns: the id of the job that waits
        """
        spec = replace(self._spec_of(key, found), dependency=f"afterany:{holder}")
        return (await self._post(spec, key.next_generation(), found, ahead=True)).job_id

    async def _post(self, spec: JobSpec, key: ClaimKey, found: Claims, *, ahead: bool = False) -> Job:
        spec = await choose_partition(self.system, spec)
        bound = BoundSubmission.bind(spec, key, self.scheduler, ahead=ahead)
        secret_file = SecretFile.of_claim(spec, key.directory(self.spec.working_dir), self.scheduler)
        request = bound.request(self.scheduler, secret_file)
        async with written(self.system, secret_file):
            if self.before_post is not None:
                await self.before_post()
            submitted_at = time.time()
            job_id = await self.system.submit_job(request, name=bound.name)
        return await self._job(bound, job_id, submitted_at, found)

    async def find_or_post(self, key: ClaimKey, *, resubmit_failed: bool) -> Job:
        """Return the job that holds the claim, else the first one in the queue that may get it, else submit one."""
        found = await self.claims.read()
        if found.has_newer_epoch(key.epoch):
            raise self._withdrawn("a newer run has begun")
        latest = replace(key, generation=max(0, found.latest(key.epoch)))
        holder = found.holder(latest)
        if holder == CANCELLED:
            raise self._withdrawn("it was cancelled")
        if holder is not None:
            if found.cause(latest) is not None:
                await self._end(holder)
            elif not (resubmit_failed or key.generation > latest.generation) or not await self._has_failed(holder):
                rivals = [] if self.alternatives is None else await self._live(latest)
                return await self._found(latest, [holder, *rivals], found)
            if self.alternatives is not None:  # whoever waited may have died before it had cancelled the others
                await self.claims.delete(await self._live(latest))
            latest = latest.next_generation()
        if live := await self._admitted(latest, found):
            return await self._found(latest, live, found)
        if latest.epoch > 0:  # the process that began this epoch may have died before the older ones had ended
            await self.claims.end_older(latest)
        try:
            return await self.post(latest, found)
        except (errors.SubmissionRejected, errors.InvalidJobSpec):
            # An earlier submission whose answer was lost may be in the queue. It may even be the reason, if there is a
            # limit on submitted jobs. A job that is reported as rejected must not run later.
            if await self._withdraw(latest):
                raise
        return await self.find_or_post(latest, resubmit_failed=resubmit_failed)

    async def _admitted(self, key: ClaimKey, found: Claims) -> list[str]:
        """Return the jobs in the queue that may get a claim which is still free.

        Those that were submitted ahead may if the end of the job before them has changed nothing of what they ask for.
        """
        plain, ahead = await self.claims.live_of(key)
        if not ahead:
            return plain
        before = replace(key, generation=key.generation - 1)
        asks_the_same = self._spec_of(key, found) == self._spec_of(before, found)
        if await decide(self.claims, key, opens=asks_the_same):
            return [*plain, *ahead]
        await self.claims.delete(ahead)
        for job_id in ahead:
            await wait_until_gone(self.system, job_id)
        return plain

    async def _live(self, key: ClaimKey) -> list[str]:
        return (await self.claims.live()).get((key.epoch, key.generation), [])

    async def _has_failed(self, job_id: str) -> bool:
        """Tell whether a job has failed and will not come back.

        The caller cannot know this: the job that it found failed may be another one than the job that holds the claim.
        """
        job = Job(system=self.system.name, job_id=job_id, array_indices=self.spec.array_indices)
        try:
            status = await read_status(self.system, job)
        except errors.JobNotFound:
            return False
        if not (status.all_ended and status.complete) or status.state is JobState.COMPLETED:
            return False
        await self._end(job_id)
        return True

    async def _end(self, job_id: str) -> None:
        """Keep a job that has failed from coming back: the scheduler may be requeuing it, after a node failure say."""
        if await self.system.cancel_job(job_id):
            await wait_until_gone(self.system, job_id)

    async def _withdraw(self, key: ClaimKey) -> bool:
        try:
            return await self.claims.take(key, CANCELLED)
        except errors.UserError as error:  # if the claim cannot be made from here, no job can make it
            log.debug("%s: the claim cannot be cancelled. %s", self.name, error)
            return True

    async def _found(self, key: ClaimKey, job_ids: Sequence[str], found: Claims) -> Job:
        """Return the first of these jobs, with the others as its rivals if they are alternatives."""
        first, *others = dict.fromkeys(job_ids)
        bound = BoundSubmission.bind(self._spec_of(key, found), key, self.scheduler)
        job = await self._job(bound, first, 0.0, found)
        return job if self.alternatives is None else replace(job, rivals=tuple(others))

    async def _job(self, bound: BoundSubmission, job_id: str, submitted_at: float, found: Claims) -> Job:
        job = await job_from_submission(
            self.system, bound.spec, job_id, name=bound.name, submitted_at=submitted_at, key=bound.key
        )
        everything = self.spec.array_indices
        if everything is None or job.array_indices is None:
            return job
        stopped = Indices.joined(group.indices for group in stopped_before(found.ends_before(bound.key)))
        return replace(job, completed_indices=everything - job.array_indices - stopped or None)

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


def _may_be_a_mistake(error: errors.FirecRESTError) -> bool:
    """Tell whether this error may come from a wrong URL or secret, if it lasts."""
    return isinstance(error, errors.UnexpectedAnswer) or not isinstance(error, errors.TransientError)
