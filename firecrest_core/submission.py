"""What every submission does, with a claim or without: the checks before it, and the job made of its answer."""

from __future__ import annotations

import logging

from firecrest_core import errors
from firecrest_core.claim import Key
from firecrest_core.client import FirecRESTClient
from firecrest_core.job import Job
from firecrest_core.jobspec import JobSpec, Scheduler

log = logging.getLogger(__name__)


async def scheduler_of(client: FirecRESTClient, system: str) -> Scheduler:
    """The kind of scheduler; asked once for each client."""
    return "pbs" if (await client.system(system)).scheduler_type == "pbs" else "slurm"


async def check_working_dir(client: FirecRESTClient, system: str, path: str) -> None:
    """Refuse a working directory that does not exist.

    It costs a request for each directory that the client has not seen yet. Without it Slurm would take the job
    and fail it without a word when its turn comes, hours later.

    :raises RemotePathNotFound: with what to do
    """
    if not await client.has_directory(system, path):
        raise errors.RemotePathNotFound(
            f"working_dir: {path} is no directory on {system}. Create it first, or correct the path."
        )


async def describe(
    client: FirecRESTClient,
    system: str,
    spec: JobSpec,
    job_id: str,
    *,
    name: str,
    submitted_at: float,
    key: Key | None = None,
) -> Job:
    """The job of an id, with what its specification says of it.

    :param name: the user's own
    """
    scheduler = await scheduler_of(client, system)
    paths = spec.output_paths(job_id, scheduler=scheduler) or await scheduler_paths(client, system, job_id)
    return Job(
        system=system,
        job_id=job_id,
        name=name,
        working_directory=spec.working_dir,
        stdout=paths[0],
        stderr=paths[1],
        array_indices=spec.array_indices,
        submitted_at=submitted_at,
        key=key,
    )


async def scheduler_paths(client: FirecRESTClient, system: str, job_id: str) -> tuple[str | None, str | None]:
    """Ask the scheduler where the output goes, standard output and standard error; ``None`` where it does not say."""
    try:
        metadata = await client.get_job_metadata(system, job_id)
    except errors.FirecRESTError as error:
        log.debug("No metadata of job %s: %s", job_id, error)
        return None, None
    return metadata.stdout or None, metadata.stderr or None
