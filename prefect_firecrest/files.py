"""Files between our side and a system, many in one call."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from firecrest_core.api.client import FirecRESTClient, System
    from firecrest_core.api.models import FileInfo
    from firecrest_core.result import JobResult
    from firecrest_core.spec.jobspec import JobSpec
    from firecrest_core.transfer import LocalPath, Transferred
    from firecrest_core.transfer.localside import StoredPath
    from prefect_firecrest.credentials import FirecRESTCredentials


def check_files(
    working_dir: str,
    alternatives: Sequence[Mapping[str, Any]] | None,
    inputs: Mapping[str, str] | None,
    outputs: Mapping[str, str] | None,
    local_files: Sequence[str] | None,
    remote_files: Sequence[str] | None,
    local_directory: str,
) -> list[str]:
    """Check that no file of a job replaces another, and return the paths on the system of ``remote_files``.

    :param working_dir: the job's
    :param alternatives: the job's; the other arguments are those of :func:`prefect_firecrest.flows.run_job`
    :raises InvalidFileName: one would
    :raises InvalidJobSpec: they are not sent to the other places of alternatives, or not fetched from there
    """
    from firecrest_core import job_files, paths, transfer
    from firecrest_core.errors import InvalidJobSpec

    if (local_files or remote_files) and any("system" in shape for shape in alternatives or ()):
        raise InvalidJobSpec(
            "alternatives", "local_files and remote_files are on the job's own system; give inputs and outputs"
        )
    job_files.check_files((inputs or {}).items(), (outputs or {}).items())
    sources = [paths.join(working_dir, path) for path in remote_files or []]
    transfer.check_uploads(local_files or [], working_dir)
    transfer.check_downloads(transfer.plain_files(sources), local_directory)
    return sources


async def upload(
    credentials: FirecRESTCredentials,
    local_files: LocalPath | Sequence[LocalPath],
    remote_directory: str,
    system: str | None,
    account: str | None,
) -> list[Transferred]:
    """Copy files and directories to a system; see :func:`prefect_firecrest.tasks.upload_files`."""
    from firecrest_core import paths, transfer

    sources = local_files if isinstance(local_files, Sequence) and not isinstance(local_files, str) else [local_files]
    transfer.check_uploads(sources, remote_directory)
    async with _client(credentials) as client:
        there = client.system(system)
        remote_directory = await paths.expand(there, remote_directory)
        await there.make_directory(remote_directory)
        target = posixpath.join(remote_directory, "")
        return [await transfer.upload(there, source, target, account=account) for source in sources]


async def download(
    credentials: FirecRESTCredentials,
    remote_files: str | Sequence[str],
    local_directory: str | Path | StoredPath,
    *,
    system: str | None,
    account: str | None,
    max_unpacked_size: int | None,
    max_unpacked_files: int | None,
) -> list[Transferred]:
    """Copy files and directories from a system; see :func:`prefect_firecrest.tasks.download_files`."""
    from firecrest_core import paths, transfer
    from firecrest_core.transfer.localside import as_local_path
    from prefect_firecrest.observability.assets import report_fetched

    sources = [remote_files] if isinstance(remote_files, str) else remote_files
    transfer.check_downloads(transfer.plain_files(sources), local_directory)
    async with _client(credentials) as client:
        there = client.system(system)
        found = await transfer.find_files(there, [await paths.expand(there, source) for source in sources])
        transfer.check_downloads(found, local_directory)
        target = as_local_path(local_directory)
        files = [
            await transfer.download(
                there,
                file.path,
                target / file.name,
                exact=True,
                account=account,
                max_unpacked_size=max_unpacked_size,
                max_unpacked_files=max_unpacked_files,
            )
            for file in found
        ]
    report_fetched(there.name, files)
    return files


async def send_inputs(system: System, spec: JobSpec, inputs: Mapping[str, str] | None) -> None:
    """Send what a job needs; see :meth:`prefect_firecrest.FirecRESTJob.trigger`."""
    from firecrest_core import job_files

    if inputs:
        await job_files.upload_inputs(system, spec.working_dir, inputs.items(), account=spec.account)


async def fetch_outputs(
    credentials: FirecRESTCredentials, result: JobResult, outputs: Mapping[str, str], account: str | None
) -> list[Transferred]:
    """Fetch what a job has left; see :func:`prefect_firecrest.tasks.fetch_outputs`."""
    from firecrest_core import job_files
    from prefect_firecrest.observability.assets import report_fetched

    async with _client(credentials) as client:
        there = client.system(result.system)
        fetched = await job_files.fetch_outputs(there, result, outputs.items(), account=account)
    report_fetched(there.name, fetched)
    return fetched


async def list_directory(
    credentials: FirecRESTCredentials, path: str, system: str | None, hidden: bool
) -> list[FileInfo]:
    """List a directory on a system, or a file alone."""
    from firecrest_core import paths

    async with _client(credentials) as client:
        there = client.system(system)
        return await there.list_files(await paths.expand(there, path), hidden=hidden)


async def wait_for_file(
    credentials: FirecRESTCredentials, path: str, system: str | None, *, poll_interval: float, timeout: float | None
) -> None:
    """Wait until a file exists; see :func:`prefect_firecrest.tasks.wait_for_file`."""
    from firecrest_core import file_wait

    async with _client(credentials) as client:
        await file_wait.wait_for_file(client.system(system), path, poll_interval=poll_interval, timeout=timeout)


async def make_directory(credentials: FirecRESTCredentials, path: str, system: str | None) -> str:
    """Make a directory on a system, and return its path; see :func:`prefect_firecrest.tasks.make_directory`."""
    from firecrest_core import paths

    async with _client(credentials) as client:
        there = client.system(system)
        path = await paths.expand(there, path)
        await there.make_directory(path)
    return path


async def delete(
    credentials: FirecRESTCredentials, remote_files: str | Sequence[str], system: str | None, *, missing_ok: bool
) -> None:
    """Remove files and directory trees on a system; see :func:`prefect_firecrest.tasks.delete_files`."""
    from firecrest_core import paths

    async with _client(credentials) as client:
        there = client.system(system)
        for path in [remote_files] if isinstance(remote_files, str) else remote_files:
            await there.remove(await paths.expand(there, path), missing_ok=missing_ok)


@asynccontextmanager
async def _client(credentials: FirecRESTCredentials) -> AsyncIterator[FirecRESTClient]:
    from prefect_firecrest.clients import client_of  # here, because flows are to import quickly

    async with client_of(credentials.connection(), credentials.saved_as) as client:
        yield client
