"""Archives: how directories travel, and files whose names or kinds a transfer job would not survive."""

from __future__ import annotations

import gzip
import logging
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path

from firecrest_core.api.client import System
from firecrest_core.errors import FileTooLarge, InvalidFileName, RequestTimedOut, TransferFailed
from firecrest_core.transfer import jobs

log = logging.getLogger(__name__)

# Bandwidth is dearer than a little processor time, but not than much of it.
_LEVEL = 1

# What the templates of the server's compress and extract jobs escape as HTML.
_ESCAPED = frozenset("&<>\"'")


def pack(source: Path, name: str, archive: Path) -> int:
    """Write ``source`` into ``archive`` under ``name``; symbolic links stay links, as with ``cp -r``.

    :returns: the bytes of the files in it
    """
    size = 0

    def count(member: tarfile.TarInfo) -> tarfile.TarInfo:
        nonlocal size
        size += member.size if member.isreg() else 0
        return member

    with tarfile.open(archive, "w:gz", compresslevel=_LEVEL) as tar:
        # A file that is given as a link is meant itself; inside a directory links stay what they are.
        tar.add(source.resolve(), name, filter=count)
    return size


def unpack(archive: Path, final: Path) -> int:
    """Put what is in ``archive`` at ``final``, each file under its name only when it is whole.

    Into a directory that exists, as ``cp -r``: files of the same name are replaced, others stay.

    :returns: the bytes of its files
    :raises TransferFailed: no archive, or one with paths outside itself
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".firecrest-", dir=final.parent) as beside:
        try:
            with tarfile.open(archive, "r:*") as tar:
                first = tar.next()  # tar tells of a directory before its entries: "." or its name
                tar.extractall(beside, filter=_careful)
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise TransferFailed(f"The archive of {final.name} cannot be unpacked: {error}") from None
        # The filter drops a leading slash, so that nothing is put, or here sought, outside.
        root = Path(beside, first.name.lstrip("/") if first else "?")
        if not root.exists() and not root.is_symlink():
            raise TransferFailed(f"The archive of {final.name} is empty.")
        return _move(root, final)


def _careful(member: tarfile.TarInfo, into: str) -> tarfile.TarInfo | None:
    try:
        return tarfile.data_filter(member, into)
    except (tarfile.AbsoluteLinkError, tarfile.LinkOutsideDestinationError, tarfile.SpecialFileError):
        log.warning("%s is left out: a link that leads out of the directory, or no file at all.", member.name)
        return None


def _move(source: Path, final: Path) -> int:
    if source.is_dir() and not source.is_symlink():
        final.mkdir(exist_ok=True)
        return sum(_move(entry, final / entry.name) for entry in source.iterdir())
    if final.is_dir() and not final.is_symlink():
        shutil.rmtree(final)
    size = 0 if source.is_symlink() else source.stat().st_size
    source.replace(final)
    return size


async def compress(system: System, source: str, archive: str, *, follow: bool, account: str | None) -> None:
    """Pack ``source`` on the system, at once where the server's time for a command suffices, else in a job.

    :param source: ``<directory>/.`` packs a directory as ``.``, also where its own path is a symbolic link
    :param follow: pack what symbolic links point to
    """
    try:
        await system.compress(source, archive, dereference=follow)
    except (RequestTimedOut, FileTooLarge):  # tar lists every file: a large tree overflows the server's buffer
        await _in_a_job(system, "compress", source, archive, account, {"dereference": follow, "compression": "gzip"})


async def extract(system: System, archive: str, directory: str, *, account: str | None) -> None:
    """Unpack ``archive`` into ``directory`` on the system, at once or in a job."""
    try:
        await system.extract(archive, directory)
    except RequestTimedOut:
        await _in_a_job(system, "extract", archive, directory, account, {"compression": "gzip"})


async def _in_a_job(
    system: System,
    operation: str,
    path: str,
    target: str,
    account: str | None,
    options: dict[str, object],
) -> None:
    if _ESCAPED & {*path, *target}:
        raise InvalidFileName(
            f"{path} on {system}: it takes a job to {operation} it, and the site's jobs change the characters & < > "
            'and " in paths. Rename the directory.'
        )
    body = {"path": path, "targetPath": target, "account": account, **options}
    job = jobs.as_job(await system.start_transfer(operation, body), operation)
    await jobs.ended(system, job)
