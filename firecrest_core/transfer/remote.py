"""The system's side of a transfer: check paths, choose destinations, verify files and clean up."""

from __future__ import annotations

import asyncio
import logging
import posixpath
import time
import uuid

from firecrest_core.api.client import System
from firecrest_core.api.models import FileStat
from firecrest_core.api.remote_paths import check_remote_path
from firecrest_core.errors import (
    FirecRESTError,
    RemotePathNotFound,
    RemotePathRefused,
    RequestTimedOut,
    TransferFailed,
)
from firecrest_core.transfer import names

log = logging.getLogger(__name__)

# Bytes. ops/checksum has 5 s, and sha256sum without SHA instructions reads a few hundred MB in a second.
LARGEST_CHECKSUM = 1024**3

# Seconds. A compute node writes and a login node reads, and NFS may show the old size, or nothing, for up to 60 s.
VISIBLE_WITHIN = 60.0


async def stat(system: System, path: str, *, follow: bool = True) -> FileStat | None:
    """Return the kind, size and time of what is at a path; ``None`` if nothing is there.

    :param system: where the path is
    :param path: the path
    :param follow: follow symbolic links
    """
    try:
        return await system.stat(path, dereference=follow)
    except RemotePathNotFound:
        return None


async def destination(
    system: System, target: str, name: str, *, tree: bool, exact: bool = False
) -> tuple[str, FileStat | None]:
    """Return the path for an upload, by the rules of ``cp``, and what is there now.

    :param system: where the target is
    :param target: the target as the caller gave it
    :param name: the source's name
    :param tree: whether the source is a directory
    :param exact: ``target`` is the new name, also where a directory is there
    :returns: ``target`` itself, or ``target``/``name`` if ``target`` is a directory or ends in ``/`` and is not
        ``exact``; and what is at this path, ``None`` for nothing
    :raises RemotePathNotFound: the directory above does not exist; the message names it
    :raises RemotePathRefused: a directory is where a file should go, or a file where a directory should
    """
    check_remote_path(target)
    bare = target.rstrip("/") or "/"
    existing = await stat(system, bare)
    if not exact and (target.endswith("/") or (existing is not None and existing.is_directory)):
        parent, parent_stat = bare, existing
        place = check_remote_path(posixpath.join(bare, name))
        existing = await stat(system, place) if parent_stat is not None else None
    else:
        parent, place = names.split(bare)[0], bare
        parent_stat = existing or await stat(system, parent)
    if parent_stat is None:
        raise RemotePathNotFound(
            f"{parent}: no such directory on {system}, so {posixpath.basename(place)} cannot be put there. Create "
            "it first (make_directory, or a make-directory task)."
        )
    if existing is not None and existing.is_directory != tree:
        kind = "a directory" if existing.is_directory else "a file"
        raise RemotePathRefused(
            f"{place} on {system} is {kind}, and would be replaced by what is not. Remove it first."
        )
    return place, existing


async def scratch(system: System, near: str) -> str:
    """Return a path for a temporary archive: in the directory ``near``, or in the user's own directory.

    :param system: where the archive will be
    :param near: a directory; it is used if transfer jobs can handle its path
    """
    directory = near if names.plain(near) else await _own_directory(system)
    return posixpath.join(directory, f".firecrest-{uuid.uuid4().hex[:16]}.tar.gz")


async def home_scratch(system: System) -> str:
    """Return a path for a temporary archive in the user's own directory, where transfer jobs write their logs."""
    return await scratch(system, await _own_directory(system))


async def _own_directory(system: System) -> str:
    systems = (await system.info()).file_systems
    chosen = next((one.path for one in systems if one.default_work_dir), None)
    if chosen is None:
        raise RemotePathRefused(
            f"{system} names no default work directory to keep an archive in. Use a path of letters, digits and "
            "._-+=@,: alone."
        )
    return posixpath.join(chosen, (await system.get_userinfo()).name)


async def verify(system: System, path: str, size: int, sha256: str, *, by_job: bool) -> None:
    """Check that a file on the system is the one that was sent.

    :param system: where the file is
    :param path: its path
    :param size: the size in bytes that was sent
    :param sha256: the SHA-256 that was sent, in hexadecimal
    :param by_job: a job wrote the file, so it may become visible on the login node late
    :raises TransferFailed: size or SHA-256 differ, or nothing is there
    """
    if by_job:
        await _has_size(system, path, size, VISIBLE_WITHIN)
    found = await digest(system, path, size)
    if found is None and not by_job:
        await _has_size(system, path, size, 0.0)
    if found is not None and found != sha256:
        raise TransferFailed(
            f"{path} on {system} did not arrive whole: its SHA-256 is {found}, that of what was sent {sha256}."
        )


async def _has_size(system: System, path: str, size: int, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    delay = 0.5
    while True:
        found = await stat(system, path)
        if found is not None and found.size == size:
            return
        if time.monotonic() + delay > deadline:
            there = "nothing is there" if found is None else f"{found.size:,} bytes are there"
            raise TransferFailed(f"{path} on {system} did not arrive whole: {size:,} bytes were sent, {there}.")
        await asyncio.sleep(delay)
        delay *= 2


async def digest(system: System, path: str, size: int) -> str | None:
    """Return the SHA-256 of a file on the system, or log that the server cannot compute it.

    :param system: where the file is
    :param path: its path
    :param size: its size in bytes
    :returns: hexadecimal, or ``None`` if the server cannot compute it
    """
    reason = None
    if names.has_space(path):
        reason = "the server cannot hash a path with white space"
    elif size > LARGEST_CHECKSUM:
        reason = "the server's time for a command does not suffice to hash so large a file"
    else:
        try:
            return await system.sha256(path)
        except RequestTimedOut:
            reason = "the server's time for a command did not suffice to hash it"
    log.info("%s on %s: compared by size alone (%s bytes), since %s.", path, system, f"{size:,}", reason)
    return None


async def remove_remains(system: System, path: str, before: str) -> None:
    """Remove what a failed transfer has left at a path. A file that it did not change stays, and so do directories.

    :param system: where the file is
    :param path: its path
    :param before: the version of the file that was there before, empty for none
    """
    try:
        now = await stat(system, path)
    except FirecRESTError as error:
        log.warning("%s on %s may be incomplete: %s", path, system, error)
        return
    if now is not None and now.is_file and now.version != before:
        await discard(system, path)


async def discard(system: System, path: str) -> None:
    """Remove a file that a transfer has created. A failure is only logged, so that an earlier error is not hidden."""
    try:
        await system.remove(path, missing_ok=True)
    except FirecRESTError as error:
        log.warning("%s on %s could not be removed, please do: %s", path, system, error)
