"""Uploads from the local side to a system."""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from firecrest_core.api.client import System
from firecrest_core.api.models import SystemInfo
from firecrest_core.errors import FileTooLarge, FirecRESTError, TransferFailed, TransientError
from firecrest_core.jobs.job import Job
from firecrest_core.transfer import archive, jobs, limits, names, remote
from firecrest_core.transfer.local_errors import local_errors
from firecrest_core.transfer.localside import (
    LocalPath,
    StoredPath,
    as_local_path,
    expand_home,
    on_disk,
    own_name,
    read_file,
    spool,
)
from firecrest_core.transfer.localside import source as find_source
from firecrest_core.transfer.packing import pack
from firecrest_core.transfer.partial import hash_file
from firecrest_core.transfer.pending import PendingTransfer, TransferPlan, Transferred
from firecrest_core.transfer.store import Store

log = logging.getLogger(__name__)


async def upload(
    system: System, source: LocalPath, target: str, *, exact: bool = False, account: str | None = None
) -> Transferred:
    """Upload a file or a directory, and return when it is complete.

    Small files are sent in one request, large ones by way of the site's staging store in parallel parts, directories as
    one archive. Size and SHA-256 are compared at the end. If the server cannot hash the file, only the size is
    compared, and the log says so. An incomplete file is removed. A local file that its owner may execute can be
    executed on the system, too.

    :param system: where the target is
    :param source: a local path, or a path object of an object store (``ObjectStoragePath``, ``UPath``)
    :param target: the path on the system. If it ends in ``/`` or is a directory, the source goes into it under its own
        name; otherwise it is the new name, in a directory that must exist. A directory that exists is merged into, as
        with ``cp -r``.
    :param exact: ``target`` is the new name, also where a directory is there, so that a second call ends in the same
        place
    :param account: the account to charge for transfer jobs, if the site requires one
    :returns: what was transferred
    :raises LocalFileNotFound: the source does not exist; no request was sent
    :raises LocalFileRefused: it cannot be read, or is or holds a FIFO, a socket or a device
    :raises RemotePathNotFound: the target's directory does not exist; the message names it
    :raises RemotePathRefused: the target is outside the file systems, not permitted, or of the wrong kind
    :raises InvalidFileName: the server's shell commands cannot handle the name
    :raises FileTooLarge: the file is too large for one request, and the system has no staging store
    :raises TransferFailed: the transfer is incomplete
    """
    pending = await begin_upload(system, source, target, exact=exact, account=account)
    return pending if isinstance(pending, Transferred) else await finish_upload(system, pending)


def check_uploads(sources: Iterable[LocalPath], directory: str) -> None:
    """Refuse to upload two files of one name into one directory.

    :param sources: paths on the local side
    :param directory: where they go under their own names
    :raises InvalidFileName: two have the same name
    """
    names.check_distinct(((str(source), own_name(as_local_path(source))) for source in sources), directory)


async def begin_upload(
    system: System, source: LocalPath, target: str, *, exact: bool = False, account: str | None = None
) -> PendingTransfer | Transferred:
    """Send everything, and return without waiting for the site's transfer job if there is one.

    Parameters and errors are those of :func:`upload`.

    :returns: ``Transferred`` if nothing is left to wait for
    """
    source = expand_home(source)
    origin = await find_source(source)
    tree = await asyncio.to_thread(origin.is_dir)
    place, before = await remote.destination(system, target, own_name(origin), tree=tree, exact=exact)
    info = await system.info()
    async with on_disk(origin) as here:
        size = 0 if tree else (await asyncio.to_thread(_state, here))[0]
        plan = TransferPlan(
            system=system.name,
            local=str(source),
            remote=place,
            transfer_path=place,
            transfer_size=size,
            size=size,
            tree=tree,
            version=before.version if before else "",
            mode="" if tree else await asyncio.to_thread(_executable_mode, origin),
            account=account,
        )
        limit = limits.direct_upload_limit(info)
        try:
            return await _pack_and_send(system, info, here, plan, limit)
        except _TooLargeForGateway as refused:
            log.info("%s Going by the staging store.", refused)
        return await _pack_and_send(system, info, here, plan, limit=-1)


class _TooLargeForGateway(FileTooLarge):
    """The system takes so many bytes directly, but something refused them. The system has a staging store."""


async def _pack_and_send(
    system: System, info: SystemInfo, here: Path, plan: TransferPlan, limit: int
) -> PendingTransfer | Transferred:
    if not _needs_archive(plan, limit):
        return await _send(system, info, here, plan, limit)
    parent, name = names.split(plan.remote)
    plan = replace(plan, transfer_path=await remote.scratch(system, parent))
    with spool() as directory:
        packed = directory / "archive"
        if not plan.tree:
            plan = replace(plan, sha256=await asyncio.to_thread(hash_file, here))
        size = await asyncio.to_thread(pack, here, name, packed)
        plan = replace(plan, size=size, transfer_size=packed.stat().st_size)
        return await _send(system, info, packed, plan, limit)


def _needs_archive(plan: TransferPlan, limit: int) -> bool:
    if plan.tree or plan.size == 0:  # for an empty file, the server's command waits for input until its timeout
        return True
    if plan.size <= limit:
        return not names.survives_multipart(plan.remote)
    return not names.plain(plan.remote)


async def _send(
    system: System, info: SystemInfo, file: Path, plan: TransferPlan, limit: int
) -> PendingTransfer | Transferred:
    """Send a file.

    :param limit: the largest size in bytes that is sent directly
    """
    if plan.transfer_size > limit:
        limits.require_staging(info, plan.local, plan.transfer_size, limits.direct_upload_limit(info))
        job, digest = await _send_staged(system, info, file, plan)
        return PendingTransfer(job=job, plan=replace(plan, transfer_sha256=digest))
    content = await asyncio.to_thread(read_file, file, plan.transfer_size)
    directory, name = names.split(plan.transfer_path)
    try:
        await system.upload_small(directory, name, content)
    except FileTooLarge as error:
        limits.require_staging(info, plan.local, plan.transfer_size, limit)
        raise _TooLargeForGateway(str(error)) from None
    except TransientError:
        await _remove_remains(system, plan)
        raise
    return await _verify_and_unpack(system, replace(plan, transfer_sha256=sha256(content).hexdigest()), by_job=False)


async def _send_staged(system: System, info: SystemInfo, file: Path, plan: TransferPlan) -> tuple[Job, str]:
    """Send the parts to the staging store, and return the job that will fetch them, and the SHA-256.

    The job checks for the complete object when it starts, and then every 60 s. So the upload must not be delayed once
    the job is queued, and the file is hashed while it is sent.
    """
    size = plan.transfer_size
    before = await asyncio.to_thread(_state, file)
    largest = info.max_part_size
    step = limits.part_size(size, largest)
    # The server returns one URL for each maxPartSize of the declared size. The parts may be smaller.
    declared = len(limits.cut(size, step)) * largest if largest else size
    request = partial(system.start_upload, plan.transfer_path, declared, account=plan.account)
    ticket = await jobs.ticket(system, "upload", request)
    job = jobs.as_job(ticket.job, "upload")
    parts = limits.cut(size, step if largest else ticket.max_part_size)
    try:
        if len(ticket.part_urls) < len(parts):
            raise TransferFailed(
                f"{plan.remote}: the server gave {len(ticket.part_urls)} upload places where {len(parts)} were due."
            )
        async with Store(system.connection) as store:
            with local_errors(plan.local, "read"):
                _, digest = await asyncio.gather(
                    store.send(file, parts, ticket.part_urls, ticket.complete_url),
                    asyncio.to_thread(hash_file, file),
                )
        if await asyncio.to_thread(_state, file) != before:
            raise TransferFailed(f"{plan.local} changed while it was sent. Send it again when it is complete.")
    except BaseException:
        await jobs.abandon(system, job)
        raise
    return job, digest


def _state(file: Path) -> tuple[int, int]:
    with local_errors(file, "read"):
        status = file.stat()
    return status.st_size, status.st_mtime_ns


def _executable_mode(origin: Path | StoredPath) -> str:
    """Return the permissions for a file that its owner may execute, in octal; an empty text for any other file."""
    if not isinstance(origin, Path):  # an object store keeps no permissions
        return ""
    with local_errors(origin, "read"):
        mode = origin.stat().st_mode
    return f"{mode & 0o755:o}" if mode & stat.S_IXUSR else ""


async def finish_upload(system: System, pending: PendingTransfer) -> Transferred:
    """Wait for the transfer job if it still runs, and check that the file is complete.

    :param system: where the target is
    :param pending: what :func:`begin_upload` returned
    :returns: what was transferred
    :raises TransferFailed: the job failed, or the file on the system differs from the one that was sent
    """
    system.client.trust_url()  # the transfer was begun there, perhaps by another process
    plan = pending.plan
    try:
        await jobs.ended(system, pending.job)
    except TransferFailed:
        await _remove_remains(system, plan)
        raise
    return await _verify_and_unpack(system, plan, by_job=True)


async def _verify_and_unpack(system: System, plan: TransferPlan, *, by_job: bool) -> Transferred:
    packed = plan.archived  # an archive keeps the permissions
    if packed:
        try:
            await _compare(system, plan, by_job=by_job)
            directory, _ = names.split(plan.remote)
            await archive.extract(system, plan.transfer_path, directory, account=plan.account)
        finally:
            await remote.discard(system, plan.transfer_path)
        if plan.tree:
            return _transferred(plan, None)
        plan = replace(plan, transfer_path=plan.remote, transfer_size=plan.size, transfer_sha256=plan.sha256 or "")
    try:
        await _compare(system, plan, by_job=by_job)
    except TransferFailed:
        await _remove_remains(system, plan)
        raise
    if plan.mode and not packed:
        await _make_executable(system, plan)
    return _transferred(plan, plan.transfer_sha256)


async def _make_executable(system: System, plan: TransferPlan) -> None:
    try:
        await system.chmod(plan.remote, plan.mode)
    except FirecRESTError as error:
        log.warning("%s on %s may not be executable: %s", plan.remote, system, error)


async def _remove_remains(system: System, plan: TransferPlan) -> None:
    before = "" if plan.archived else plan.version
    await remote.remove_remains(system, plan.transfer_path, before)


async def _compare(system: System, plan: TransferPlan, *, by_job: bool) -> None:
    await remote.verify(
        system,
        plan.transfer_path,
        plan.transfer_size,
        plan.transfer_sha256 or "",
        by_job=by_job,
    )


def _transferred(plan: TransferPlan, digest: str | None) -> Transferred:
    return Transferred(local=plan.local, remote=plan.remote, size=plan.size, sha256=digest)
