"""From the system to our side."""

from __future__ import annotations

import asyncio
import posixpath
import tempfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr

from firecrest_core.client import FirecRESTClient
from firecrest_core.errors import RemotePathNotFound, RemotePathRefused, TransferFailed
from firecrest_core.models import SystemInfo
from firecrest_core.transfer import archive, jobs, limits, names, remote
from firecrest_core.transfer.localside import LocalPath, StoredPath, destination, landing
from firecrest_core.transfer.partial import PartialFile, hash_file, write_whole
from firecrest_core.transfer.pending import Parcel, PendingTransfer, Transferred
from firecrest_core.transfer.sealed import seal, unseal
from firecrest_core.transfer.store import Store


async def download(
    client: FirecRESTClient, system: str, source: str, target: LocalPath, *, account: str | None = None
) -> Transferred:
    """Fetch a file or a directory, and return when it is here whole.

    Small files come in one request, large ones over the site's staging store in parallel parts, directories as
    one archive. A large file that breaks off is continued by the next call with the same source and target, as
    long as the source did not change. Size and SHA-256 are compared before the file gets its name; by size alone,
    with a line in the log, where the server cannot hash the file.

    :param source: the path on the system
    :param target: a local path, or a path object of an object store (``ObjectStoragePath``, ``UPath``). Ends it in
        ``/``, or is it a directory, then the source goes into it under its own name; else it is the new name.
        Directories that are missing are made. A directory that is there already is merged into, as with ``cp -r``.
    :param account: the account to charge for transfer jobs, where the site asks for one
    :raises RemotePathNotFound: no such source
    :raises RemotePathRefused: outside the file systems, not permitted, neither file nor directory
    :raises InvalidFileName: a name that the server's shell lines would break
    :raises FileTooLarge: over the direct limit, on a system without a staging store
    :raises TransferFailed: it did not arrive whole
    """
    begun = await begin_download(client, system, source, target, account=account)
    return begun if isinstance(begun, Transferred) else await finish_download(client, begun, target)


async def begin_download(
    client: FirecRESTClient, system: str, source: str, target: LocalPath, *, account: str | None = None
) -> PendingTransfer | Transferred:
    """Fetch what comes at once, else have it staged and return without waiting for the site's transfer job.

    Parameters and errors are those of :func:`download`.

    :returns: ``Transferred`` if nothing is left to wait for
    """
    bare = names.check(source).rstrip("/") or "/"
    seen = await remote.look(client, system, bare)
    if seen is None:
        raise RemotePathNotFound(f"{bare}: no such file or directory on {system}. Check the path.")
    if not (seen.is_file or seen.is_directory):
        raise RemotePathRefused(f"{bare} on {system} is neither a file nor a directory.")
    place = await destination(target, posixpath.basename(bare))
    info = await client.system(system)
    parcel = Parcel(
        system=system,
        local=str(target),
        remote=bare,
        carrier=bare,
        carrier_size=seen.size,
        tree=seen.is_directory,
        size=seen.size,
        version=f"{client.connection.url} {system} {bare} {seen.version}",
        account=account,
    )
    if not await _needs_archive(client, info, parcel):
        return await _fetch(client, info, parcel, place)
    parcel = await _packed(client, parcel)
    try:
        return await _fetch(client, info, parcel, place)
    except BaseException:
        await remote.discard(client, system, parcel.carrier)
        raise


async def _needs_archive(client: FirecRESTClient, info: SystemInfo, parcel: Parcel) -> bool:
    if parcel.tree:
        return True
    limit = limits.direct_download_limit(info)
    if parcel.size <= limit:
        return False
    limits.require_staging(info, f"{parcel.remote} on {parcel.system}", parcel.size, limit)
    if not names.plain(parcel.remote):
        return True
    # The job that sends a file to the store takes the length of a link for that of the file, and cuts it.
    own = await remote.look(client, parcel.system, parcel.remote, follow=False)
    return own is not None and own.is_link


async def _packed(client: FirecRESTClient, parcel: Parcel) -> Parcel:
    """Have an archive made on the system: beside the source, else in the user's own directory."""
    system = parcel.system
    source = f"{parcel.remote}/." if parcel.tree else parcel.remote
    carrier = await remote.scratch(client, system, names.split(parcel.remote)[0])

    async def pack() -> None:
        try:
            await archive.compress(client, system, source, carrier, follow=not parcel.tree, account=parcel.account)
        except BaseException:
            await remote.discard(client, system, carrier)
            raise

    try:
        await pack()
    except RemotePathRefused:
        carrier = await remote.home_scratch(client, system)
        await pack()
    made = await remote.look(client, system, carrier)
    if made is None:
        raise TransferFailed(f"{parcel.remote} on {system} could not be packed: the archive is not there.")
    return replace(parcel, carrier=carrier, carrier_size=made.size, version=carrier)


async def _fetch(
    client: FirecRESTClient, info: SystemInfo, parcel: Parcel, place: Path | StoredPath
) -> PendingTransfer | Transferred:
    limit = limits.direct_download_limit(info)
    if parcel.carrier_size > limit:
        limits.require_staging(info, f"{parcel.remote} on {parcel.system}", parcel.carrier_size, limit)
        ticket = await client.start_download(parcel.system, parcel.carrier, account=parcel.account)
        return PendingTransfer(
            job=jobs.as_job(ticket.job, "download"),
            parcel=parcel,
            sealed_url=seal(ticket.url, client.connection.client_secret),
        )
    content = await client.get_small(parcel.system, parcel.carrier)
    digest = sha256(content).hexdigest()
    await _compare(client, parcel, len(content), digest)
    async with landing(place) as here:
        if not parcel.archived:
            await asyncio.to_thread(write_whole, here, content)
            return _transferred(parcel, place, len(content), digest)
        with tempfile.TemporaryDirectory(prefix="firecrest-") as spool:
            packed = Path(spool) / "archive"
            await asyncio.to_thread(packed.write_bytes, content)
            return await _unpack(client, parcel, packed, here, place)


async def finish_download(
    client: FirecRESTClient, pending: PendingTransfer, target: LocalPath | None = None
) -> Transferred:
    """Wait for the transfer job, if it still runs, fetch the bytes, and make sure that all of them arrived.

    :param target: the target that :func:`begin_download` was given; needed when it is no local path
    :raises TransferFailed: the job failed, or what arrived is not what is on the system
    """
    parcel = pending.parcel
    try:
        place = await destination(target or parcel.local, posixpath.basename(parcel.remote))
        await jobs.ended(client, pending.job)
        url = unseal(pending.sealed_url or "", client.connection.client_secret)
        async with landing(place) as here:
            if not parcel.archived:
                digest = await _fetch_staged(client, parcel, url, here)
                return _transferred(parcel, place, parcel.carrier_size, digest)
            # Beside the target, where there is room for the content anyway.
            with tempfile.TemporaryDirectory(prefix=".firecrest-", dir=here.parent) as spool:
                packed = Path(spool) / "archive"
                await _fetch_staged(client, parcel, url, packed)
                return await _unpack(client, parcel, packed, here, place)
    finally:
        if parcel.archived:
            await remote.discard(client, parcel.system, parcel.carrier)


async def _fetch_staged(client: FirecRESTClient, parcel: Parcel, url: SecretStr, final: Path) -> str:
    """Fetch the parts from the staging store, compare, and give the file its name; return its SHA-256."""
    partial = PartialFile(final, parcel.version, limits.cut(parcel.carrier_size, limits.part_size(parcel.carrier_size)))
    missing = await asyncio.to_thread(partial.begin)
    async with Store(client.connection) as store:
        await store.fetch(url, missing, parcel.carrier_size, partial.write, partial.whole)
    digest = await asyncio.to_thread(hash_file, partial.path)
    try:
        await _compare(client, parcel, partial.path.stat().st_size, digest)
    except TransferFailed:
        partial.discard()
        raise
    await asyncio.to_thread(partial.finish)
    return digest


async def _compare(client: FirecRESTClient, parcel: Parcel, size: int, digest: str) -> None:
    system, path = parcel.system, parcel.carrier
    if size != parcel.carrier_size:
        raise TransferFailed(
            f"{path} on {system} did not arrive whole, or changed meanwhile: it had {parcel.carrier_size:,} bytes, "
            f"{size:,} arrived."
        )
    found = await remote.digest(client, system, path, size)
    if found is not None and found != digest:
        raise TransferFailed(
            f"{path} on {system} did not arrive whole, or changed meanwhile: its SHA-256 is {found}, that of what "
            f"arrived {digest}."
        )


async def _unpack(
    client: FirecRESTClient, parcel: Parcel, packed: Path, here: Path, place: Path | StoredPath
) -> Transferred:
    size = await asyncio.to_thread(archive.unpack, packed, here)
    await remote.discard(client, parcel.system, parcel.carrier)
    digest = None if parcel.tree else await asyncio.to_thread(hash_file, here)
    return _transferred(parcel, place, size, digest)


def _transferred(parcel: Parcel, place: Path | StoredPath, size: int, digest: str | None) -> Transferred:
    return Transferred(local=str(place), remote=parcel.remote, size=size, sha256=digest)
