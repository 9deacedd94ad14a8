"""What every submission does, with a claim or without: the checks before it, and the job made of its answer."""

from __future__ import annotations

import logging

from firecrest_core import errors
from firecrest_core.api.client import System
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.output_paths import output_paths

log = logging.getLogger(__name__)


async def check_working_dir(system: System, path: str) -> None:
    """Refuse a working directory that does not exist.

    It costs a request for each directory that the client has not seen yet. Without it Slurm would take the job
    and fail it without a word when its turn comes, hours later.

    :raises RemotePathNotFound: with what to do
    """
    if not await system.has_directory(path):
        raise errors.RemotePathNotFound(
            f"working_dir: {path} is no directory on {system}. Create it first, or correct the path."
        )


async def job_from_submission(
    system: System, spec: JobSpec, job_id: str, *, name: str, submitted_at: float, key: ClaimKey | None = None
) -> Job:
    """Return the job of an id, with what its specification says of it.

    :param name: the user's own
    :param submitted_at: Unix time; 0 for a job that was found
    """
    paths = output_paths(spec, job_id, scheduler=await system.scheduler()) or await scheduler_paths(system, job_id)
    return Job(
        system=system.name,
        job_id=job_id,
        name=name,
        working_dir=spec.working_dir,
        stdout=paths[0],
        stderr=paths[1],
        array_indices=spec.array_indices,
        submitted_at=submitted_at,
        key=key,
    )


async def scheduler_paths(system: System, job_id: str) -> tuple[str | None, str | None]:
    """Ask the scheduler where the output goes, standard output and standard error; ``None`` where it does not say."""
    try:
        metadata = await system.get_job_metadata(job_id)
    except errors.FirecRESTError as error:
        log.debug("No metadata of job %s: %s", job_id, error)
        return None, None
    return metadata.stdout or None, metadata.stderr or None
