"""Downloads from a system to the local side."""

from __future__ import annotations

import asyncio
import logging
import posixpath
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr

from firecrest_core.api.client import System
from firecrest_core.api.models import SystemInfo
from firecrest_core.api.remote_paths import check_remote_path
from firecrest_core.errors import FileTooLarge, RemotePathNotFound, RemotePathRefused, TransferFailed
from firecrest_core.transfer import archive, jobs, limits, names, remote
from firecrest_core.transfer.encryption import decrypt, encrypt
from firecrest_core.transfer.localside import LocalPath, StoredPath, destination, expand_home, spool, staged_target
from firecrest_core.transfer.partial import PartialFile, hash_file, write_whole
from firecrest_core.transfer.patterns import RemoteFile
from firecrest_core.transfer.pending import PendingTransfer, TransferPlan, Transferred
from firecrest_core.transfer.store import Store
from firecrest_core.transfer.unpacking import UnpackLimits, unpack

log = logging.getLogger(__name__)


async def download(
    system: System,
    source: str,
    target: LocalPath,
    *,
    exact: bool = False,
    account: str | None = None,
    max_unpacked_size: int | None = None,
    max_unpacked_files: int | None = None,
) -> Transferred:
    """Download a file or a directory, and return when it is complete.

    Small files are downloaded in one request, large ones from the site's staging store in parallel parts, directories
    as one archive. If the download of a large file breaks off, the next call with the same source and target continues
    it, provided that the source has not changed. Size and SHA-256 are compared before the file gets its name. If the
    server cannot hash the file, only the size is compared, and the log says so.

    :param system: where the source is
    :param source: the path on the system
    :param target: a local path, or a path object of an object store (``ObjectStoragePath``, ``UPath``). If it ends in
        ``/`` or is a directory, the source goes into it under its own name; otherwise it is the new name. Missing
        parent directories are created. A directory that exists is merged into, as with ``cp -r``.
    :param exact: ``target`` is the new name, also where a directory is there, so that a second call ends in the same
        place
    :param account: the account to charge for transfer jobs, if the site requires one
    :param max_unpacked_size: bytes that the archive of a directory may unpack to; nine tenths of the free disk unless
        given
    :param max_unpacked_files: how many files and directories it may unpack to; a million unless given
    :returns: what was transferred
    :raises RemotePathNotFound: the source does not exist
    :raises RemotePathRefused: the source is outside the file systems, not permitted, or neither file nor directory
    :raises InvalidFileName: the server's shell commands cannot handle the name, or it is ``.`` or ``..``
    :raises LocalFileRefused: something of another kind or a link to a directory is in the way, or writing is not
        permitted
    :raises FileTooLarge: the file is too large for one request, and the system has no staging store; or a directory is
        larger than a limit
    :raises TransferFailed: the transfer is incomplete, its archive is broken, or the local disk is full
    """
    pending = await begin_download(
        system,
        source,
        target,
        exact=exact,
        account=account,
        max_unpacked_size=max_unpacked_size,
        max_unpacked_files=max_unpacked_files,
    )
    return pending if isinstance(pending, Transferred) else await finish_download(system, pending, target)


def check_downloads(files: Iterable[RemoteFile], directory: LocalPath) -> None:
    """Refuse to download two files of one name into one directory.

    :param files: what is downloaded
    :param directory: where they go under their names
    :raises InvalidFileName: two have the same name
    """
    names.check_distinct(((file.path, file.name) for file in files), directory)


async def begin_download(
    system: System,
    source: str,
    target: LocalPath,
    *,
    exact: bool = False,
    account: str | None = None,
    max_unpacked_size: int | None = None,
    max_unpacked_files: int | None = None,
) -> PendingTransfer | Transferred:
    """Download what needs no transfer job; else start the site's transfer job and return without waiting for it.

    Parameters and errors are those of :func:`download`.

    :returns: ``Transferred`` if nothing is left to wait for
    """
    target = expand_home(target)
    bare = check_remote_path(source).rstrip("/") or "/"
    names.check_own(bare)
    found = await remote.stat(system, bare)
    if found is None:
        raise RemotePathNotFound(f"{bare}: no such file or directory on {system}. Check the path.")
    if not (found.is_file or found.is_directory):
        raise RemotePathRefused(f"{bare} on {system} is neither a file nor a directory.")
    place = await destination(target, posixpath.basename(bare), tree=found.is_directory, exact=exact)
    info = await system.info()
    plan = TransferPlan(
        system=system.name,
        local=str(target),
        remote=bare,
        transfer_path=bare,
        transfer_size=found.size,
        tree=found.is_directory,
        size=found.size,
        version=f"{system.connection.url} {system} {bare} {found.version}",
        account=account,
        exact=exact,
        max_unpacked_size=max_unpacked_size,
        max_unpacked_files=max_unpacked_files,
    )
    content = None if plan.tree else await _read_directly(system, info, plan)
    if content is not None:
        return await _keep(system, plan, content, place)
    if not (plan.tree or await _needs_archive(system, plan)):
        return await _begin_staged(system, plan)
    plan = await _packed(system, plan)
    try:
        content = await _read_directly(system, info, plan)
        if content is None:
            return await _begin_staged(system, plan)
        return await _keep(system, plan, content, place)
    except BaseException:
        await remote.discard(system, plan.transfer_path)
        raise


async def _read_directly(system: System, info: SystemInfo, plan: TransferPlan) -> bytes | None:
    """Return the content of a file that goes in one request; ``None`` if it has to go by the staging store.

    :raises FileTooLarge: the system has none
    """
    limit = limits.direct_download_limit(info)
    if plan.transfer_size <= limit:
        try:
            return await system.download_small(plan.transfer_path, most=info.max_ops_file_size)
        except FileTooLarge as error:  # a gateway takes less than the site, or the server's buffer is smaller
            log.info("%s Going by the staging store, if there is one.", error)
    limits.require_staging(info, f"{plan.remote} on {plan.system}", plan.transfer_size, limit)
    return None


async def _needs_archive(system: System, plan: TransferPlan) -> bool:
    """Tell whether a transfer job cannot send the file as it is."""
    if plan.size == 0 or not names.plain(plan.remote):
        return True
    # For a symbolic link, the job that sends the file to the store uses the length of the link, and truncates the file.
    unfollowed = await remote.stat(system, plan.remote, follow=False)
    return unfollowed is not None and unfollowed.is_link


async def _packed(system: System, plan: TransferPlan) -> TransferPlan:
    """Create an archive on the system, beside the source, or in the user's own directory if that is not writable."""
    source = f"{plan.remote}/." if plan.tree else plan.remote
    transfer_path = await remote.scratch(system, names.split(plan.remote)[0])

    async def pack() -> None:
        try:
            await archive.compress(system, source, transfer_path, follow=not plan.tree, account=plan.account)
        except BaseException:
            await remote.discard(system, transfer_path)
            raise

    try:
        await pack()
    except RemotePathRefused:
        transfer_path = await remote.home_scratch(system)
        await pack()
    packed = await remote.stat(system, transfer_path)
    if packed is None:
        raise TransferFailed(f"{plan.remote} on {system} could not be packed: the archive is not there.")
    return replace(plan, transfer_path=transfer_path, transfer_size=packed.size, version=transfer_path)


async def _begin_staged(system: System, plan: TransferPlan) -> PendingTransfer:
    request = partial(system.start_download, plan.transfer_path, account=plan.account)
    ticket = await jobs.ticket(system, "download", request)
    return PendingTransfer(
        job=jobs.as_job(ticket.job, "download"),
        plan=plan,
        encrypted_url=encrypt(ticket.url, system.connection.secret),
    )


async def _keep(system: System, plan: TransferPlan, content: bytes, place: Path | StoredPath) -> Transferred:
    digest = sha256(content).hexdigest()
    await _compare(system, plan, len(content), digest)
    async with staged_target(place) as here:
        if not plan.archived:
            await asyncio.to_thread(write_whole, here, content)
            return _transferred(plan, place, len(content), digest)
        with spool() as directory:
            packed = directory / "archive"
            await asyncio.to_thread(write_whole, packed, content)
            return await _unpack(system, plan, packed, here, place)


async def finish_download(system: System, pending: PendingTransfer, target: LocalPath | None = None) -> Transferred:
    """Wait for the transfer job if it still runs, fetch the file, and check that it is complete.

    :param system: where the source is
    :param pending: what :func:`begin_download` returned
    :param target: the target that :func:`begin_download` was given; needed if it is not a local path
    :returns: what was transferred
    :raises TransferFailed: the job failed, or the received file differs from the one on the system
    """
    system.client.trust_url()  # the transfer was begun there, perhaps by another process
    plan = pending.plan
    try:
        name = posixpath.basename(plan.remote)
        place = await destination(target or plan.local, name, tree=plan.tree, exact=plan.exact)
        await jobs.ended(system, pending.job)
        url = decrypt(pending.encrypted_url or "", system.connection.secret)
        async with staged_target(place) as here:
            if not plan.archived:
                digest = await _fetch_staged(system, plan, url, here)
                return _transferred(plan, place, plan.transfer_size, digest)
            # The archive goes beside the target, because that file system must have room for the content anyway.
            with spool(here.parent) as directory:
                packed = directory / "archive"
                await _fetch_staged(system, plan, url, packed)
                return await _unpack(system, plan, packed, here, place)
    finally:
        if plan.archived:
            await remote.discard(system, plan.transfer_path)


async def _fetch_staged(system: System, plan: TransferPlan, url: SecretStr, final: Path) -> str:
    """Fetch the parts from the staging store, compare the file, give it its name, and return its SHA-256."""
    partial = PartialFile(final, plan.version, limits.cut(plan.transfer_size, limits.part_size(plan.transfer_size)))
    missing = await asyncio.to_thread(partial.begin)
    async with Store(system.connection) as store:
        await store.fetch(url, missing, plan.transfer_size, partial.write, partial.whole)
    size, digest = await asyncio.to_thread(partial.check)
    try:
        await _compare(system, plan, size, digest)
    except TransferFailed:
        partial.discard()
        raise
    await asyncio.to_thread(partial.finish)
    return digest


async def _compare(system: System, plan: TransferPlan, size: int, digest: str) -> None:
    path = plan.transfer_path
    if size != plan.transfer_size:
        raise TransferFailed(
            f"{path} on {system} did not arrive whole, or changed meanwhile: it had {plan.transfer_size:,} bytes, "
            f"{size:,} were received."
        )
    found = await remote.digest(system, path, size)
    if found is not None and found != digest:
        raise TransferFailed(
            f"{path} on {system} did not arrive whole, or changed meanwhile: its SHA-256 is {found}, that of what was "
            f"received {digest}."
        )


async def _unpack(
    system: System, plan: TransferPlan, packed: Path, here: Path, place: Path | StoredPath
) -> Transferred:
    unpack_limits = UnpackLimits(plan.max_unpacked_size, plan.max_unpacked_files)
    size = await asyncio.to_thread(unpack, packed, here, tree=plan.tree, limits=unpack_limits)
    await remote.discard(system, plan.transfer_path)
    digest = None if plan.tree else await asyncio.to_thread(hash_file, here)
    return _transferred(plan, place, size, digest)


def _transferred(plan: TransferPlan, place: Path | StoredPath, size: int, digest: str | None) -> Transferred:
    return Transferred(local=str(place), remote=plan.remote, size=size, sha256=digest)
