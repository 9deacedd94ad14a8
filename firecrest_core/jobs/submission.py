"""The steps that submissions with and without a claim share: the checks before, and the job that results."""

from __future__ import annotations

import logging
from dataclasses import replace

from firecrest_core import errors
from firecrest_core.api.client import System
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.output_paths import output_paths

log = logging.getLogger(__name__)


async def check_working_dir(system: System, path: str) -> None:
    """Refuse a working directory that does not exist.

    Without this check, Slurm would accept the job and fail it without a message when it starts, hours later. It costs
    one request for each directory that the client has not checked yet.

    :param system: where the job will run
    :param path: absolute path of the directory
    :raises RemotePathNotFound: it does not exist; the message says what to do
    :raises InvalidJobSpec: it is not absolute
    :raises OutsideFileSystems: it is on none of the system's file systems; the message names them
    """
    if not path.startswith("/"):
        raise errors.InvalidJobSpec(
            "working_dir", f"{path!r} is not absolute; firecrest_core.paths.expand_spec does that"
        )
    try:
        exists = await system.has_directory(path)
    except errors.OutsideFileSystems as error:
        raise errors.OutsideFileSystems(f"working_dir: {error}") from None
    if not exists:
        raise errors.RemotePathNotFound(
            f"working_dir: {path} is no directory on {system}. Correct the path, or let make_working_dir=True make it."
        )


async def with_text(system: System, spec: JobSpec, path: str) -> JobSpec:
    """Return a job with a script's text in the place of its ``script_path``, so that lines can be added.

    :param system: where the script is
    :param spec: the job
    :param path: the script's absolute path
    :raises InvalidJobSpec: it is no text, or no script
    """
    try:
        text = (await system.download_small(path)).decode()
        return replace(spec, script_path=None, script=text)
    except UnicodeDecodeError:
        raise errors.InvalidJobSpec("script_path", f"{path} on {system} is not text in UTF-8") from None
    except errors.InvalidJobSpec as error:
        raise errors.InvalidJobSpec("script_path", f"{path} on {system}: {error}") from None


async def job_from_submission(
    system: System, spec: JobSpec, job_id: str, *, name: str, submitted_at: float, key: ClaimKey | None = None
) -> Job:
    """Return the job with this id and with the data of its specification.

    :param system: where it is
    :param spec: its specification
    :param job_id: the id that the submission returned
    :param name: the user's name for it
    :param submitted_at: Unix time of the submission; 0 for a job that was found
    :param key: the key of its claim, if it has one
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
    """Query the scheduler for the paths of a job's output.

    :param system: where the job is
    :param job_id: its id
    :returns: standard output and standard error; ``None`` for a path that the scheduler does not give
    """
    try:
        metadata = await system.get_job_metadata(job_id)
    except errors.FirecRESTError as error:
        log.debug("No metadata of job %s: %s", job_id, error)
        return None, None
    return metadata.stdout or None, metadata.stderr or None
