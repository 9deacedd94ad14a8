"""The system's side of a transfer: what is there, where something goes, whether it arrived."""

from __future__ import annotations

import asyncio
import logging
import posixpath
import time
import uuid

from firecrest_core.api.client import System
from firecrest_core.api.models import FileStat
from firecrest_core.errors import (
    FirecRESTError,
    RemotePathNotFound,
    RemotePathRefused,
    RequestTimedOut,
    TransferFailed,
)
from firecrest_core.transfer import names

log = logging.getLogger(__name__)

# ops/checksum has 5 s; sha256sum without SHA instructions reads a few hundred MB in one.
LARGEST_CHECKSUM = 1024**3

# A compute node writes, a login node looks: NFS may show the old size, or nothing, for up to 60 s.
VISIBLE_WITHIN = 60.0


async def stat(system: System, path: str, *, follow: bool = True) -> FileStat | None:
    """Return what is at ``path``, ``None`` where nothing is.

    :param follow: tell of what a symbolic link points to
    """
    try:
        return await system.stat(path, dereference=follow)
    except RemotePathNotFound:
        return None


async def destination(system: System, target: str, name: str, *, tree: bool) -> tuple[str, FileStat | None]:
    """Return where an upload goes, as ``cp`` would, and what is there now.

    Into ``target`` under its own ``name`` where ``target`` is a directory or ends in ``/``, else to ``target``.

    :raises RemotePathNotFound: naming the directory that is missing
    :raises RemotePathRefused: a directory is where a file should go, or a file where a directory should
    """
    names.check(target)
    bare = target.rstrip("/") or "/"
    seen = await stat(system, bare)
    if target.endswith("/") or (seen is not None and seen.is_directory):
        parent, parent_seen = bare, seen
        place = names.check(posixpath.join(bare, name))
        seen = await stat(system, place) if parent_seen is not None else None
    else:
        parent, place = names.split(bare)[0], bare
        parent_seen = seen or await stat(system, parent)
    if parent_seen is None:
        raise RemotePathNotFound(
            f"{parent}: no such directory on {system}, so {posixpath.basename(place)} cannot be put there. Create "
            "it first (make_directory, or a make-directory task)."
        )
    if seen is not None and seen.is_directory != tree:
        kind = "a directory" if seen.is_directory else "a file"
        raise RemotePathRefused(
            f"{place} on {system} is {kind}, and would be replaced by what is not. Remove it first."
        )
    return place, seen


async def scratch(system: System, near: str) -> str:
    """Return a path for a short-lived archive: in the directory ``near``, else in the user's own directory."""
    directory = near if names.plain(near) else await _own_directory(system)
    return posixpath.join(directory, f".firecrest-{uuid.uuid4().hex[:16]}.tar.gz")


async def home_scratch(system: System) -> str:
    """Return a path for a short-lived archive in the user's own directory, where transfer jobs keep their logs."""
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
    """Make sure that the file at ``path`` is what was sent.

    :param by_job: a job wrote it, so another node may see it late
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


async def _has_size(system: System, path: str, size: int, patience: float) -> None:
    give_up = time.monotonic() + patience
    delay = 0.5
    while True:
        seen = await stat(system, path)
        if seen is not None and seen.size == size:
            return
        if time.monotonic() + delay > give_up:
            there = "nothing is there" if seen is None else f"{seen.size:,} bytes are there"
            raise TransferFailed(f"{path} on {system} did not arrive whole: {size:,} bytes were sent, {there}.")
        await asyncio.sleep(delay)
        delay *= 2


async def digest(system: System, path: str, size: int) -> str | None:
    """Return the SHA-256 of a file on the system, ``None`` where the server cannot tell; the log says so."""
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
    """Remove what a transfer that failed has left at ``path``. What it did not touch, and directories, stay.

    :param before: the version that was there before, '' for nothing
    """
    try:
        now = await stat(system, path)
    except FirecRESTError as error:
        log.warning("%s on %s may be incomplete: %s", path, system, error)
        return
    if now is not None and now.is_file and now.version != before:
        await discard(system, path)


async def discard(system: System, path: str) -> None:
    """Remove a file of ours, if that is possible: what failed before matters more."""
    try:
        await system.remove(path, missing_ok=True)
    except FirecRESTError as error:
        log.warning("%s on %s could not be removed, please do: %s", path, system, error)
