"""Files between our side and a system, many in one call."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_firecrest.background import shared_client

if TYPE_CHECKING:
    from firecrest_core.models import FileInfo
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
    from firecrest_core import transfer

    sources = local_files if isinstance(local_files, Sequence) and not isinstance(local_files, str) else [local_files]
    async with shared_client(credentials.connection()) as client:
        chosen = client.connection.system_or_default(system)
        await client.make_directory(chosen, remote_directory)
        target = posixpath.join(remote_directory, "")
        return [await transfer.upload(client, chosen, source, target, account=account) for source in sources]


async def download(
    credentials: FirecRESTCredentials,
    remote_files: str | Sequence[str],
    local_directory: str | Path | StoredPath,
    system: str | None,
    account: str | None,
) -> list[Transferred]:
    from firecrest_core import transfer
    from prefect_firecrest import assets

    sources = [remote_files] if isinstance(remote_files, str) else remote_files
    async with shared_client(credentials.connection()) as client:
        chosen = client.connection.system_or_default(system)
        target = Path(local_directory) if isinstance(local_directory, str) else local_directory
        files = [
            await transfer.download(
                client, chosen, source, target / posixpath.basename(source.rstrip("/")), account=account
            )
            for source in sources
        ]
    assets.fetched(chosen, files)
    return files


async def listing(credentials: FirecRESTCredentials, path: str, system: str | None, hidden: bool) -> list[FileInfo]:
    async with shared_client(credentials.connection()) as client:
        return await client.ls(client.connection.system_or_default(system), path, hidden=hidden)
