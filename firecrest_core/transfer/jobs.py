"""The transfer jobs that the server submits."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from firecrest_core.api.client import System
from firecrest_core.api.filesystem import Ticket, UnreadableTicket
from firecrest_core.api.models import TransferJob
from firecrest_core.errors import FirecRESTError, JobNotFound, TransferFailed
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.logs import output_tails
from firecrest_core.jobs.submission_queue import SubmissionQueue
from firecrest_core.watch.watcher import JobWatcher

log = logging.getLogger(__name__)

T = TypeVar("T")

POLL_INTERVAL = 5.0


def as_job(job: TransferJob, name: str) -> Job:
    """Convert a transfer job to a job that can be waited for. Its two logs become its output.

    :param job: as the server returned it
    :param name: what it does, for the log
    """
    return Job(
        system=job.system,
        job_id=job.job_id,
        name=name,
        working_dir=job.working_dir,
        stdout=job.output_log or None,
        stderr=job.error_log or None,
        submitted_at=time.time(),
    )


async def start(system: System, name: str, request: Callable[[], Awaitable[T]]) -> T:
    """Let the server submit a transfer job, which counts for the user's limit on submitted jobs as any other.

    :param system: where the job will be
    :param name: what it does, for the log
    :param request: sends the request
    """
    return await SubmissionQueue.shared(system).submit(system, f"Transfer job ({name})", request)


async def ticket(system: System, name: str, request: Callable[[], Awaitable[Ticket]]) -> Ticket:
    """Return the answer to the request for a staged transfer. If it cannot be read, cancel the job that was begun.

    :param system: where the job is
    :param name: what it does, for the log
    :param request: calls ``start_upload`` or ``start_download``
    :raises TransferFailed: the answer cannot be read
    :raises ConfigurationError: the staging store is used over plain http, which the connection does not allow
    """
    try:
        return await start(system, name, request)
    except UnreadableTicket as error:
        job = as_job(error.job, name)
        cancelled = await abandon(system, job)
        end = "was cancelled" if cancelled else "could not be cancelled, please do"
        raise error.becomes(f"{error} Its transfer job {job.job_id} on {job.system} {end}.") from None


async def ended(system: System, job: Job) -> None:
    """Wait for the end of a transfer job, and remove its logs if it ended well.

    It is no failure if the scheduler does not know the job any more, because the file is compared afterwards anyway.

    :param system: where the job is
    :param job: the job
    :raises TransferFailed: the job failed; the message has the last lines of its log
    """
    try:
        watcher = JobWatcher.shared(system.connection, job.system, type(system.client))
        result = await watcher.wait(job, poll_interval=POLL_INTERVAL, on_message=lambda line: log.info("%s", line))
    except JobNotFound:
        log.info("%s on %s is no longer known to the scheduler.", job, job.system)
        return
    if not result.succeeded:
        output, error = await output_tails(system, result)
        tail = (error.strip() or output.strip())[-2000:]
        raise TransferFailed(
            f"The site's transfer job failed. {result.summary()}" + (f"\nIts last lines:\n{tail}" if tail else "")
        )
    await remove_logs(system, job)


async def remove_logs(system: System, job: Job) -> None:
    """Remove the two logs that every transfer job leaves in the user's own directory."""
    for path in (job.stdout, job.stderr):
        if path:
            try:
                await system.remove(path, missing_ok=True)
            except FirecRESTError as error:
                log.debug("%s stays: %s", path, error)


async def abandon(system: System, job: Job) -> bool:
    """Cancel the transfer job of an upload that failed. Otherwise the job would wait for the parts for a day.

    :param system: where the job is
    :param job: the job
    :returns: whether the scheduler was told
    """
    try:
        await system.cancel_job(job.job_id)
    except FirecRESTError as error:
        log.warning("%s on %s could not be cancelled: %s", job, job.system, error)
        return False
    return True
