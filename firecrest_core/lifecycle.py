"""The life of a job: submit it, wait for its end, cancel it, read what it left.

:func:`start` and its companions from :mod:`firecrest_core.exactly_once` let one payload run for a key, however often
they are called. :func:`submit` submits once and remembers nothing: if its answer is lost, so is the job.
"""

from __future__ import annotations

import logging
import math
import time
from functools import partial

from firecrest_core import arrays, errors, progress, scripts, submission
from firecrest_core.claim_directory import until_ended
from firecrest_core.client import FirecRESTClient
from firecrest_core.exactly_once import begin_epoch, end_older, owner, resume, settle, start
from firecrest_core.exactly_once import cancel as cancel_epoch
from firecrest_core.excerpt import BYTES, excerpt
from firecrest_core.job import Job
from firecrest_core.jobspec import JobSpec
from firecrest_core.outage import persist
from firecrest_core.result import JobResult
from firecrest_core.states import JobState
from firecrest_core.watcher import status, wait

__all__ = [
    "Job",
    "begin_epoch",
    "cancel",
    "cancel_epoch",
    "check",
    "end_older",
    "find",
    "output_tail",
    "owner",
    "resume",
    "settle",
    "start",
    "status",
    "submit",
    "until_ended",
    "wait",
]

log = logging.getLogger(__name__)


async def submit(client: FirecRESTClient, system: str, spec: JobSpec) -> Job:
    """Submit a job, at most once and without a claim, and return it as soon as the scheduler has taken it.

    While the system is unhealthy or cannot be reached, the submission waits.

    :raises RemotePathNotFound: the working directory does not exist. Slurm itself would take the job and fail
        it without a word when its turn comes, hours later.
    :raises SubmissionRejected: the scheduler refused it
    :raises SubmissionUnknown: the answer was lost
    """
    request = spec.request(await submission.scheduler_of(client, system))
    await submission.check_working_dir(client, system, spec.working_dir)
    submitted_at = time.time()
    # An outage is waited out: the server was reached before, and has certainly done nothing yet.
    job_id = await persist(partial(client.submit_job, system, request), math.inf)
    return await submission.describe(client, system, spec, job_id, name=request.name or "", submitted_at=submitted_at)


async def find(client: FirecRESTClient, system: str, job_id: str) -> Job:
    """Return a job that somebody else submitted.

    :raises JobNotFound: the scheduler does not know it
    """
    info = await client.system(system)
    seen = progress.read(await client.get_job(system, job_id), job_id)
    try:
        metadata = await client.get_job_metadata(system, job_id)
    except (errors.JobNotFound, errors.TransientError):  # gone soon after the job's end on Slurm < 24.05
        return Job(system=system, job_id=job_id, name=seen.name, working_directory=seen.working_directory)
    array = scripts.own_options(metadata.script, info.scheduler_type).get("array")
    return Job(
        system=system,
        job_id=job_id,
        name=seen.name,
        working_directory=seen.working_directory,
        stdout=metadata.stdout or None,
        stderr=metadata.stderr or None,
        array_indices=None if array is None else arrays.indices(array),
    )


async def cancel(client: FirecRESTClient, system: str, job_id: str) -> None:
    """Cancel a job; cancelling what has ended succeeds."""
    await client.cancel(system, job_id)


async def output_tail(client: FirecRESTClient, result: JobResult, lines: int = 20) -> tuple[str, str]:
    """Return the last lines of standard output and of standard error, without what looks like a secret.

    The second is empty where both go to one file. Of an array, those of its first element that failed, else of
    its first. What cannot be read is empty: a job's result must not fail for its last lines.
    """
    tails = []
    for path in dict.fromkeys(filter(None, result.output_paths())):
        try:
            # By bytes: the last line alone may be as long as the file.
            text = await client.tail_text(result.system, path, num_bytes=BYTES)
            tails.append(excerpt(text, lines, cut=len(text.encode()) >= BYTES))
        except errors.FirecRESTError as error:
            log.debug("The end of %s cannot be read: %s", path, error)
            tails.append("")
    return (tails[0] if tails else "", tails[1] if len(tails) > 1 else "")


def check(result: JobResult, stderr_tail: str = "", stdout_tail: str = "") -> JobResult:
    """Return ``result`` if the job ended well.

    :param stderr_tail: the last lines of its standard error, for the message
    :param stdout_tail: those of its output, for the message where the standard error is empty
    :raises JobFailed: or the kind of it that the state names
    """
    if result.succeeded:
        return result
    raise _FAILURES.get(result.state, errors.JobFailed)(result, stderr_tail, stdout_tail)


_FAILURES: dict[JobState, type[errors.JobFailed]] = {
    JobState.OUT_OF_MEMORY: errors.JobOutOfMemory,
    JobState.TIMEOUT: errors.JobTimeLimit,
    JobState.DEADLINE: errors.JobTimeLimit,
    JobState.NODE_FAIL: errors.JobNodeFailure,
    JobState.BOOT_FAIL: errors.JobNodeFailure,
    JobState.PREEMPTED: errors.JobPreempted,
    JobState.CANCELLED: errors.JobCancelled,
    JobState.REVOKED: errors.JobCancelled,
}
