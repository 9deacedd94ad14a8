"""The life of a job: submit it, wait for its end, cancel it, read what it left."""

from __future__ import annotations

import logging
import time

from firecrest_core import arrays, errors, progress, scripts
from firecrest_core.client import FirecRESTClient
from firecrest_core.job import Job
from firecrest_core.jobspec import JobSpec, Scheduler
from firecrest_core.progress import Progress
from firecrest_core.result import JobResult
from firecrest_core.states import JobState
from firecrest_core.waiting import Story
from firecrest_core.watcher import JobWatcher

__all__ = ["Job", "cancel", "check", "find", "output_tail", "status", "submit", "wait"]

log = logging.getLogger(__name__)


async def submit(client: FirecRESTClient, system: str, spec: JobSpec) -> Job:
    """Submit a job and return it as soon as the scheduler has taken it.

    :raises RemotePathNotFound: the working directory does not exist. Slurm itself would take the job and fail
        it without a word when its turn comes, hours later.
    :raises SubmissionRejected: the scheduler refused it
    :raises SubmissionUnknown: the answer was lost
    """
    info = await client.system(system)
    scheduler: Scheduler = "pbs" if info.scheduler_type == "pbs" else "slurm"
    request = spec.request(scheduler)
    if not await client.is_directory(system, spec.working_dir):
        raise errors.RemotePathNotFound(
            f"working_dir: {spec.working_dir} is no directory on {system}. Create it first, or correct the path."
        )
    submitted_at = time.time()
    job_id = await client.submit_job(system, request)
    paths = spec.output_paths(job_id, scheduler=scheduler) or await _output_paths(client, system, job_id)
    return Job(
        system=system,
        job_id=job_id,
        name=request.name or "",
        working_directory=spec.working_dir,
        stdout=paths[0],
        stderr=paths[1],
        array_indices=spec.array_indices,
        submitted_at=submitted_at,
    )


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


async def status(client: FirecRESTClient, job: Job) -> Progress:
    """Ask once where a job is.

    :raises JobNotFound: the scheduler does not know it (yet)
    """
    return progress.read(await client.get_job(job.system, job.job_id), job.job_id, job.array_indices)


async def wait(
    client: FirecRESTClient,
    job: Job,
    *,
    poll_interval: float = 10.0,
    timeout: float | None = None,
    story: Story | None = None,
    fail_if_stuck: bool = False,
) -> JobResult:
    """Wait for a job's end, whatever it is, together with all who wait for jobs of the same system and user.

    The parameters and errors are those of :meth:`JobWatcher.wait`.

    :param client: says where and as whom; the questions themselves are asked by the watcher's own client
    """
    watcher = JobWatcher.shared(client.connection, job.system, type(client))
    return await watcher.wait(
        job, poll_interval=poll_interval, timeout=timeout, story=story, fail_if_stuck=fail_if_stuck
    )


async def cancel(client: FirecRESTClient, system: str, job_id: str) -> None:
    """Cancel a job; cancelling what has ended succeeds."""
    await client.cancel(system, job_id)


async def output_tail(client: FirecRESTClient, result: JobResult, lines: int = 20) -> tuple[str, str]:
    """Return the last lines of standard output and of standard error.

    The second is empty where both go to one file. Of an array, those of its first element that failed, else of
    its first. What cannot be read is empty: a job's result must not fail for its last lines.
    """
    tails = []
    for path in dict.fromkeys(filter(None, result.output_paths())):
        try:
            tails.append(await client.tail_text(result.system, path, lines=lines))
        except errors.FirecRESTError as error:
            log.debug("The end of %s cannot be read: %s", path, error)
            tails.append("")
    return (tails[0] if tails else "", tails[1] if len(tails) > 1 else "")


def check(result: JobResult, stderr_tail: str = "") -> JobResult:
    """Return ``result`` if the job ended well.

    :param stderr_tail: the last lines of its standard error, for the message
    :raises JobFailed: or the kind of it that the state names
    """
    if result.succeeded:
        return result
    raise _FAILURES.get(result.state, errors.JobFailed)(result, stderr_tail)


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


async def _output_paths(client: FirecRESTClient, system: str, job_id: str) -> tuple[str | None, str | None]:
    """Ask the scheduler where the output goes: a script on the cluster may say so in its own directives."""
    try:
        metadata = await client.get_job_metadata(system, job_id)
    except errors.FirecRESTError as error:
        log.debug("No metadata of job %s: %s", job_id, error)
        return None, None
    return metadata.stdout or None, metadata.stderr or None
