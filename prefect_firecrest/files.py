"""Files between our side and a system, many in one call."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from firecrest_core.api.models import FileInfo
    from firecrest_core.transfer import LocalPath, Transferred
    from firecrest_core.transfer.localside import StoredPath
    from prefect_firecrest.credentials import FirecRESTCredentials


async def upload(
    credentials: FirecRESTCredentials,
    local_files: LocalPath | Sequence[LocalPath],
    remote_directory: str,
    system: str | None,
    account: str | None,
) -> list[Transferred]:
    """Copy files and directories to a system; see :func:`prefect_firecrest.tasks.upload_files`."""
    from firecrest_core import transfer

    sources = local_files if isinstance(local_files, Sequence) and not isinstance(local_files, str) else [local_files]
    transfer.check_uploads(sources, remote_directory)
    async with runtime.client(credentials.connection()) as client:
        there = client.system(system)
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
    from firecrest_core import transfer
    from prefect_firecrest.observability.assets import report_fetched

    sources = [remote_files] if isinstance(remote_files, str) else remote_files
    transfer.check_downloads(transfer.plain_files(sources), local_directory)
    async with runtime.client(credentials.connection()) as client:
        there = client.system(system)
        found = await transfer.find_files(there, sources)
        transfer.check_downloads(found, local_directory)
        target = Path(local_directory) if isinstance(local_directory, str) else local_directory
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


async def list_directory(
    credentials: FirecRESTCredentials, path: str, system: str | None, hidden: bool
) -> list[FileInfo]:
    """List a directory on a system, or a file alone."""
    async with runtime.client(credentials.connection()) as client:
        return await client.system(system).list_files(path, hidden=hidden)


async def make_directory(credentials: FirecRESTCredentials, path: str, system: str | None) -> str:
    """Make a directory on a system, and return its path; see :func:`prefect_firecrest.tasks.make_directory`."""
    async with runtime.client(credentials.connection()) as client:
        await client.system(system).make_directory(path)
    return path


async def delete(
    credentials: FirecRESTCredentials, remote_files: str | Sequence[str], system: str | None, *, missing_ok: bool
) -> None:
    """Remove files and directory trees on a system; see :func:`prefect_firecrest.tasks.delete_files`."""
    async with runtime.client(credentials.connection()) as client:
        for path in [remote_files] if isinstance(remote_files, str) else remote_files:
            await client.system(system).remove(path, missing_ok=missing_ok)
