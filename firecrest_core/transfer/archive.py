"""Archives, for directories and for files whose names or kinds a transfer job cannot handle."""

from __future__ import annotations

import gzip
import logging
import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from firecrest_core.api.client import System
from firecrest_core.errors import FileTooLarge, InvalidFileName, RequestTimedOut, TransferFailed
from firecrest_core.transfer import jobs

log = logging.getLogger(__name__)

# The lowest compression level: it saves bandwidth for little processor time.
_LEVEL = 1

# The characters that the templates of the server's compress and extract jobs escape as HTML.
_ESCAPED = frozenset("&<>\"'")


# Bytes. The names and attributes of a file are shorter. tarfile reads content in smaller pieces.
_LARGEST_HEADER = 256 * 1024

_MOST_FILES = 1_000_000


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """How much an archive may unpack to: a small one can fill a disk.

    :param size: bytes of all files together; ``None`` for nine tenths of what is free on the disk
    :param files: number of files, directories and links; ``None`` for a million, which take about half a gigabyte of
        memory
    """

    size: int | None = None
    files: int | None = None


def pack(source: Path, name: str, archive: Path) -> int:
    """Write a file or directory into an archive. Symbolic links inside a directory stay links, as with ``cp -r``.

    :param source: the file or directory
    :param name: its name in the archive
    :param archive: the archive to write
    :returns: the total size of its files in bytes
    """
    size = 0

    def count(member: tarfile.TarInfo) -> tarfile.TarInfo:
        nonlocal size
        size += member.size if member.isreg() else 0
        return member

    with tarfile.open(archive, "w:gz", compresslevel=_LEVEL) as tar:
        # If the source itself is a link, its target is packed.
        tar.add(source.resolve(), name, filter=count)
    return size


def unpack(archive: Path, final: Path, limits: UnpackLimits | None = None) -> int:
    """Unpack an archive to ``final``. Each file gets its name only when it is complete.

    If ``final`` is an existing directory, the content is merged into it, as with ``cp -r``: files of the same name are
    replaced, others stay.

    :param archive: the archive (``tar`` with gzip), with a single file or directory in it
    :param final: the path of that file or directory when unpacked
    :param limits: how much may be unpacked; the default limits unless given
    :returns: the total size of the files in bytes
    :raises TransferFailed: this is no archive, it is empty, or it has paths outside itself
    :raises FileTooLarge: a limit is passed; nothing of it is left
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    members = _Members(final.name, limits or UnpackLimits(), shutil.disk_usage(final.parent).free)
    with tempfile.TemporaryDirectory(prefix=".firecrest-", dir=final.parent) as beside:
        try:
            with _Content(archive) as content, tarfile.open(fileobj=content, mode="r:") as tar:
                first = tar.next()  # a directory comes before its entries, as "." or under its name
                tar.extractall(beside, filter=members.admit)
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, RecursionError) as error:
            raise TransferFailed(f"The archive of {final.name} cannot be unpacked: {error}") from None
        # The filter drops a leading slash, so that nothing is written outside. The same is done here.
        root = Path(beside, first.name.lstrip("/") if first else "?")
        if not root.exists() and not root.is_symlink():
            raise TransferFailed(f"The archive of {final.name} is empty.")
        return _move(root, final)


class _Members:
    """Decides which members of an archive are unpacked.

    :param name: of what is unpacked, for messages
    :param limits: how much may be unpacked
    :param free: bytes that are free on the disk
    """

    def __init__(self, name: str, limits: UnpackLimits, free: int) -> None:
        self._name = name
        self._largest = free * 9 // 10 if limits.size is None else limits.size
        self._most = _MOST_FILES if limits.files is None else limits.files
        self._size = 0
        self._count = 0
        self._whose = "nine tenths of the free disk" if limits.size is None else "the limit"

    def admit(self, member: tarfile.TarInfo, into: str) -> tarfile.TarInfo | None:
        """Return the member, changed so that it is safe to unpack, or ``None`` to leave it out.

        :raises FileTooLarge: a limit would be passed
        """
        self._count += 1
        self._size += member.size
        if self._size > self._largest:
            raise FileTooLarge(
                f"The archive of {self._name} unpacks to more than {self._largest:,} bytes, {self._whose}. If that is "
                "right, make room, or set max_unpacked_size."
            )
        if self._count > self._most:
            raise FileTooLarge(
                f"The archive of {self._name} has more than {self._most:,} files. If that is right, raise "
                "max_unpacked_files."
            )
        try:
            return tarfile.data_filter(member, into)
        except (tarfile.AbsoluteLinkError, tarfile.LinkOutsideDestinationError, tarfile.SpecialFileError):
            log.warning("%s is left out: a link that leads out of the directory, or no file at all.", member.name)
            return None


class _Content(gzip.GzipFile):
    """An archive's content for ``tarfile``, which reads the header of a long name or attribute at once, of any size."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return super().read(size)


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
    """Pack a file or directory on the system: directly within the server's command timeout, else in a job.

    :param system: where it is
    :param source: its path; ``<directory>/.`` packs a directory as ``.``, even if its path is a symbolic link
    :param archive: the path of the archive
    :param follow: pack what symbolic links point to
    :param account: the account to charge for the job
    :raises InvalidFileName: it needs a job, and the job cannot handle a path
    """
    try:
        await system.compress(source, archive, dereference=follow)
    except (RequestTimedOut, FileTooLarge):  # tar lists every file, and a large tree overflows the server's buffer
        await _in_a_job(system, "compress", source, archive, account, {"dereference": follow, "compression": "gzip"})


async def extract(system: System, archive: str, directory: str, *, account: str | None) -> None:
    """Unpack an archive on the system: directly within the server's command timeout, else in a job.

    :param system: where it is
    :param archive: its path
    :param directory: the directory to unpack into
    :param account: the account to charge for the job
    :raises InvalidFileName: it needs a job, and the job cannot handle a path
    """
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
    begun = await jobs.start(system, operation, partial(system.start_transfer, operation, body))
    job = jobs.as_job(begun, operation)
    await jobs.ended(system, job)
