"""From our side to the system."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from firecrest_core.client import FirecRESTClient
from firecrest_core.errors import TransferFailed, TransientError
from firecrest_core.job import Job
from firecrest_core.models import SystemInfo
from firecrest_core.transfer import archive, jobs, limits, names, remote
from firecrest_core.transfer.localside import LocalPath, on_disk, own_name
from firecrest_core.transfer.localside import source as find_source
from firecrest_core.transfer.partial import hash_file
from firecrest_core.transfer.pending import Parcel, PendingTransfer, Transferred
from firecrest_core.transfer.store import Store


async def upload(
    client: FirecRESTClient, system: str, source: LocalPath, target: str, *, account: str | None = None
) -> Transferred:
    """Send a file or a directory, and return when it has arrived whole.

    Small files go in one request, large ones over the site's staging store in parallel parts, directories as one
    archive. Size and SHA-256 are compared at the end; by size alone, with a line in the log, where the server
    cannot hash the file. What does not arrive whole is not left under its name.

    :param source: a local path, or a path object of an object store (``ObjectStoragePath``, ``UPath``)
    :param target: the path on the system. Ends it in ``/``, or is it a directory, then the source goes into it
        under its own name; else it is the new name, in a directory that must exist. A directory that is there
        already is merged into, as with ``cp -r``.
    :param account: the account to charge for transfer jobs, where the site asks for one
    :raises LocalFileNotFound: before any request
    :raises RemotePathNotFound: naming the directory that is missing
    :raises RemotePathRefused: outside the file systems, not permitted, or not of the right kind
    :raises InvalidFileName: a name that the server's shell lines would break
    :raises FileTooLarge: over the direct limit, on a system without a staging store
    :raises TransferFailed: it did not arrive whole
    """
    begun = await begin_upload(client, system, source, target, account=account)
    return begun if isinstance(begun, Transferred) else await finish_upload(client, begun)


async def begin_upload(
    client: FirecRESTClient, system: str, source: LocalPath, target: str, *, account: str | None = None
) -> PendingTransfer | Transferred:
    """Send everything, and return without waiting for the site's transfer job if there is one.

    Parameters and errors are those of :func:`upload`.

    :returns: ``Transferred`` if nothing is left to wait for
    """
    origin = await find_source(source)
    tree = await asyncio.to_thread(origin.is_dir)
    place, before = await remote.destination(client, system, target, own_name(origin), tree=tree)
    info = await client.system(system)
    async with on_disk(origin) as here:
        size = 0 if tree else here.stat().st_size
        parcel = Parcel(
            system=system,
            local=str(source),
            remote=place,
            carrier=place,
            carrier_size=size,
            size=size,
            tree=tree,
            version=before.version if before else "",
            account=account,
        )
        if not _needs_archive(info, parcel):
            return await _send(client, info, here, parcel)
        directory, name = names.split(place)
        parcel = replace(parcel, carrier=await remote.scratch(client, system, directory))
        with tempfile.TemporaryDirectory(prefix="firecrest-") as spool:
            packed = Path(spool) / "archive"
            if not tree:
                parcel = replace(parcel, sha256=await asyncio.to_thread(hash_file, here))
            size = await asyncio.to_thread(archive.pack, here, name, packed)
            parcel = replace(parcel, size=size, carrier_size=packed.stat().st_size)
            return await _send(client, info, packed, parcel)


def _needs_archive(info: SystemInfo, parcel: Parcel) -> bool:
    if parcel.tree or parcel.size == 0:  # a direct upload of nothing waits for its input until the server gives up
        return True
    if parcel.size <= limits.direct_upload_limit(info):
        return not names.survives_multipart(parcel.remote)
    return not names.plain(parcel.remote)


async def _send(client: FirecRESTClient, info: SystemInfo, file: Path, parcel: Parcel) -> PendingTransfer | Transferred:
    limit = limits.direct_upload_limit(info)
    if parcel.carrier_size > limit:
        limits.require_staging(info, parcel.local, parcel.carrier_size, limit)
        job, digest = await _send_staged(client, info, file, parcel)
        return PendingTransfer(job=job, parcel=replace(parcel, carrier_sha256=digest))
    content = await asyncio.to_thread(file.read_bytes)
    directory, name = names.split(parcel.carrier)
    try:
        await client.put_small(parcel.system, directory, name, content)
    except TransientError:
        await _remove_remains(client, parcel)
        raise
    return await _settle(client, replace(parcel, carrier_sha256=sha256(content).hexdigest()), by_job=False)


async def _send_staged(client: FirecRESTClient, info: SystemInfo, file: Path, parcel: Parcel) -> tuple[Job, str]:
    """Send the parts to the staging store and return the job that will fetch them from there, and the SHA-256.

    The job looks for the whole object when it starts and then each 60 s: nothing may delay the bytes once it is
    queued, so the file is hashed while it is sent.
    """
    size = parcel.carrier_size
    before = await asyncio.to_thread(_state, file)
    largest = info.max_part_size
    step = limits.part_size(size, largest)
    # One place is given for each maxPartSize that is declared; the parts may be smaller.
    declared = len(limits.cut(size, step)) * largest if largest else size
    ticket = await client.start_upload(parcel.system, parcel.carrier, declared, account=parcel.account)
    job = jobs.as_job(ticket.job, "upload")
    parts = limits.cut(size, step if largest else ticket.max_part_size)
    try:
        if len(ticket.part_urls) < len(parts):
            raise TransferFailed(
                f"{parcel.remote}: the server gave {len(ticket.part_urls)} upload places where {len(parts)} were due."
            )
        async with Store(client.connection) as store:
            _, digest = await asyncio.gather(
                store.send(file, parts, ticket.part_urls, ticket.complete_url),
                asyncio.to_thread(hash_file, file),
            )
        if await asyncio.to_thread(_state, file) != before:
            raise TransferFailed(f"{parcel.local} changed while it was sent. Send it again when it is complete.")
    except BaseException:
        await jobs.abandon(client, job)
        raise
    return job, digest


def _state(file: Path) -> tuple[int, int]:
    seen = file.stat()
    return seen.st_size, seen.st_mtime_ns


async def finish_upload(client: FirecRESTClient, pending: PendingTransfer) -> Transferred:
    """Wait for the transfer job, if it still runs, and make sure that everything arrived.

    :raises TransferFailed: the job failed, or what arrived is not what was sent
    """
    parcel = pending.parcel
    try:
        await jobs.ended(client, pending.job)
    except TransferFailed:
        await _remove_remains(client, parcel)
        raise
    return await _settle(client, parcel, by_job=True)


async def _settle(client: FirecRESTClient, parcel: Parcel, *, by_job: bool) -> Transferred:
    if parcel.archived:
        try:
            await _compare(client, parcel, by_job=by_job)
            directory, _ = names.split(parcel.remote)
            await archive.extract(client, parcel.system, parcel.carrier, directory, account=parcel.account)
        finally:
            await remote.discard(client, parcel.system, parcel.carrier)
        if parcel.tree:
            return _transferred(parcel, None)
        parcel = replace(parcel, carrier=parcel.remote, carrier_size=parcel.size, carrier_sha256=parcel.sha256 or "")
    try:
        await _compare(client, parcel, by_job=by_job)
    except TransferFailed:
        await _remove_remains(client, parcel)
        raise
    return _transferred(parcel, parcel.carrier_sha256)


async def _remove_remains(client: FirecRESTClient, parcel: Parcel) -> None:
    before = "" if parcel.archived else parcel.version
    await remote.remove_remains(client, parcel.system, parcel.carrier, before)


async def _compare(client: FirecRESTClient, parcel: Parcel, *, by_job: bool) -> None:
    await remote.arrived(
        client,
        parcel.system,
        parcel.carrier,
        parcel.carrier_size,
        parcel.carrier_sha256 or "",
        by_job=by_job,
    )


def _transferred(parcel: Parcel, digest: str | None) -> Transferred:
    return Transferred(local=parcel.local, remote=parcel.remote, size=parcel.size, sha256=digest)
