"""The life of a job: submit it, wait for its end, cancel it, read what it left. Both faces use it.

With a :class:`~firecrest_core.jobs.key.ClaimKey` one payload runs for the key, however often :func:`submit` is called
(see :mod:`firecrest_core.claims.protocol`). Without one, a job is submitted once and nothing is remembered: if the
answer is lost, so is the job.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial

from firecrest_core import errors
from firecrest_core.api.backoff import retry_transient
from firecrest_core.api.client import System
from firecrest_core.claims import protocol
from firecrest_core.claims.directory import wait_until_gone
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.jobs.logs import output_tails
from firecrest_core.jobs.status import parse_status
from firecrest_core.jobs.submission import check_working_dir, job_from_submission
from firecrest_core.result import JobResult
from firecrest_core.spec import arrays
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.options import script_options
from firecrest_core.spec.render import submit_request
from firecrest_core.watch.tracker import OnMessage, OnStatus
from firecrest_core.watch.watcher import JobWatcher

log = logging.getLogger(__name__)

OnOutput = Callable[[str, str], None]


async def submit(
    system: System,
    spec: JobSpec,
    key: ClaimKey | None = None,
    *,
    first_attempt: bool = False,
    resubmit_failed: bool = True,
) -> Job:
    """Submit a job and return it as soon as the scheduler has taken it, or find the one that runs for its key.

    While the system is unhealthy or cannot be reached, the submission waits.

    :param key: what the claim is for; without it, the job is submitted at most once, and always anew
    :param first_attempt: nobody has called this for the key's epoch before, so nothing needs to be looked for
    :param resubmit_failed: run the job once more if it has failed, as an automatic retry wants it
    :raises RemotePathNotFound: the working directory does not exist. Slurm itself would take the job and fail
        it without a word when its turn comes, hours later.
    :raises SubmissionRejected: the scheduler refused it
    :raises SubmissionUnknown: the answer was lost; only without a key
    :raises JobWithdrawn: the key was cancelled, or a newer epoch has begun
    """
    if key is not None:
        return await protocol.submit(system, spec, key, first_attempt=first_attempt, resubmit_failed=resubmit_failed)
    request = submit_request(spec, await system.scheduler())
    await check_working_dir(system, spec.working_dir)
    submitted_at = time.time()
    # An outage is waited out: the server was reached before, and has certainly done nothing yet.
    job_id = await retry_transient(partial(system.submit_job, request), math.inf)
    return await job_from_submission(system, spec, job_id, name=request.name or "", submitted_at=submitted_at)


async def wait(
    system: System,
    job: Job,
    *,
    poll_interval: float = 10.0,
    timeout: float | None = None,
    on_message: OnMessage | None = None,
    on_status: OnStatus | None = None,
    fail_if_stuck: bool = False,
) -> JobResult:
    """Wait for a job's end, whatever it is, together with all who wait for jobs of the same system and user.

    Of a job with a key, the result is that of the job that holds the claim, which may be another one: it is waited for,
    too.

    :param system: says where and as whom; the questions themselves are asked by the client of the shared
        :class:`~firecrest_core.watch.watcher.JobWatcher`
    :param poll_interval: seconds between two questions at the most; a young job is asked for more often
    :param timeout: seconds after which to give up waiting, though not before the first answer; the job is left alone
    :param on_message: gets a line for the job's first state, each change with its reason, node and elapsed time, what
        keeps it from starting, and each outage
    :param on_status: gets each answer until the job has ended
    :param fail_if_stuck: give up when the job can never start, instead of only saying so
    :raises WaitTimedOut: after ``timeout``
    :raises JobNotFound: when the job stays unknown
    :raises JobStuck: if wanted
    :raises ClaimMissing: the job ended, but nothing says that it ran
    """
    watcher = JobWatcher.shared(system.connection, job.system, type(system.client))
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        result = await watcher.wait(
            job,
            poll_interval=poll_interval,
            timeout=None if until is None else max(0.0, until - time.monotonic()),
            on_message=on_message,
            on_status=on_status,
            fail_if_stuck=fail_if_stuck,
        )
        found = await protocol.find_owner(system, job, result)
        if isinstance(found, JobResult):
            return found
        job = found


async def cancel(system: System, job: Job) -> None:
    """Cancel a job, and with a key all that was or will be submitted for its epoch. What has ended is no error.

    :raises FirecRESTError: when it cannot be cancelled; see :func:`firecrest_core.claims.protocol.cancel`
    """
    if job.key is None:
        await system.cancel_job(job.job_id)
    else:
        await protocol.cancel(system, job.working_dir, job.key.identity, job.key.epoch)


async def cancel_attempt(system: System, job: Job) -> None:
    """Cancel a job alone and wait until it is gone, so that the next attempt for its key runs it anew.

    A job without an id is left to that attempt.
    """
    if job.job_id:
        await system.cancel_job(job.job_id)
        await wait_until_gone(system, job.job_id)


async def cancel_and_wait(system: System, job: Job) -> None:
    """Cancel what :func:`cancel` does, and wait until nothing of it runs any more."""
    if job.key is None:
        await cancel_attempt(system, job)
    else:
        await protocol.end_older(system, job.working_dir, job.key.next_epoch())


async def raise_for_state(system: System, result: JobResult, *, on_output: OnOutput | None = None) -> JobResult:
    """Return the result of a job that ended well; raise for any other, with the last lines of its output.

    :param on_output: gets the path and the last lines of each of the job's output files that has any. Without it, a job
        that ended well costs no request.
    :raises JobFailed: or the kind of it that the state names
    """
    if result.succeeded and on_output is None:
        return result
    tails = await output_tails(system, result)
    for path, tail in zip(result.output_paths(), tails, strict=True):
        if on_output is not None and path is not None and tail.strip():
            on_output(path, tail.rstrip())
    if result.succeeded:
        return result
    stdout, stderr = tails
    raise errors.JobFailed.kind(result.state)(result, stderr, stdout)


async def find(system: System, job_id: str) -> Job:
    """Return a job that somebody else submitted.

    :raises JobNotFound: the scheduler does not know it
    """
    seen = parse_status(await system.get_job(job_id), job_id)
    try:
        metadata = await system.get_job_metadata(job_id)
    except (errors.JobNotFound, errors.TransientError):  # gone soon after the job's end on Slurm < 24.05
        return Job(system=system.name, job_id=job_id, name=seen.name, working_dir=seen.working_dir)
    array = script_options(metadata.script, await system.scheduler()).get("array")
    return Job(
        system=system.name,
        job_id=job_id,
        name=seen.name,
        working_dir=seen.working_dir,
        stdout=metadata.stdout or None,
        stderr=metadata.stderr or None,
        array_indices=None if array is None else arrays.indices(array),
    )
