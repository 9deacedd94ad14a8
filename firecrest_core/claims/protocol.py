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

Taking the claim of the first generation without one as ``cancelled`` ends the epoch (see
:mod:`firecrest_core.claims.submission` for generations).
"""

from __future__ import annotations

import logging
import math

from firecrest_core import errors
from firecrest_core.api.backoff import FIRST_CONTACT_LIMIT, OUTAGES, Backoff, retry_transient
from firecrest_core.api.client import System
from firecrest_core.claims.claim import Claims
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.claims.submission import Adjust, BeforePost, PreparePlace, Submission, unchanged
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.alternatives import Alternatives
from firecrest_core.spec.jobspec import JobSpec

log = logging.getLogger(__name__)

# Answers that only a FirecREST gives, so the URL must be right.
_FAULTS = (errors.ServerFault, errors.RateLimited, errors.SystemUnhealthy)


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
    prepare_place: PreparePlace | None = None,
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
    :param prepare_place: awaited once for each other place of the alternatives, before a job is submitted there. A
        place for which it fails is left out; without it, a later generation leaves out those that no earlier one has
        used.
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
                system, spec, key.identity, before_post, adjust, alternatives, prepare_place
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


def _may_be_a_mistake(error: errors.FirecRESTError) -> bool:
    """Tell whether this error may come from a wrong URL or secret, if it lasts."""
    return isinstance(error, errors.UnexpectedAnswer) or not isinstance(error, errors.TransientError)
