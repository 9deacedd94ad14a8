"""The jobs that the server submits to move files."""

from __future__ import annotations

import logging
import time

from firecrest_core.client import FirecRESTClient
from firecrest_core.errors import FirecRESTError, JobNotFound, TransferFailed
from firecrest_core.job import Job
from firecrest_core.lifecycle import output_tail, wait
from firecrest_core.models import TransferJob

log = logging.getLogger(__name__)

POLL_INTERVAL = 5.0


def as_job(job: TransferJob, name: str) -> Job:
    """Return a transfer job as one that can be waited for; its two logs are its output.

    :param name: what it does, for the log
    """
    return Job(
        system=job.system,
        job_id=job.job_id,
        name=name,
        working_directory=job.working_directory,
        stdout=job.output_log or None,
        stderr=job.error_log or None,
        submitted_at=time.time(),
    )


async def ended(client: FirecRESTClient, job: Job) -> None:
    """Wait for the end of a transfer job, and remove its logs if it ended well.

    A job that the scheduler has forgotten is no failure: whether the file arrived is compared afterwards anyway.

    :raises TransferFailed: with the last lines of its log
    """
    try:
        result = await wait(client, job, poll_interval=POLL_INTERVAL, story=lambda line: log.info("%s", line))
    except JobNotFound:
        log.info("%s on %s is no longer known to the scheduler.", job, job.system)
        return
    if not result.succeeded:
        output, error = await output_tail(client, result)
        said = (error.strip() or output.strip())[-2000:]
        raise TransferFailed(
            f"The site's transfer job failed. {result.story()}" + (f"\nIts last lines:\n{said}" if said else "")
        )
    await remove_logs(client, job)


async def remove_logs(client: FirecRESTClient, job: Job) -> None:
    """Remove the two files that every transfer leaves in the user's own directory."""
    for path in (job.stdout, job.stderr):
        if path:
            try:
                await client.remove(job.system, path, missing_ok=True)
            except FirecRESTError as error:
                log.debug("%s stays: %s", path, error)


async def abandon(client: FirecRESTClient, job: Job) -> None:
    """Cancel a transfer job that would wait for a day for bytes that never come."""
    try:
        await client.cancel(job.system, job.job_id)
    except FirecRESTError as error:
        log.warning("%s on %s could not be cancelled: %s", job, job.system, error)
