"""Archives, for directories and for files whose names or kinds a transfer job cannot handle."""

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

# The lowest compression level: it saves bandwidth for little processor time.
_LEVEL = 1

# The characters that the templates of the server's compress and extract jobs escape as HTML.
_ESCAPED = frozenset("&<>\"'")


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


def unpack(archive: Path, final: Path) -> int:
    """Unpack an archive to ``final``. Each file gets its name only when it is complete.

    If ``final`` is an existing directory, the content is merged into it, as with ``cp -r``: files of the same name are
    replaced, others stay.

    :param archive: the archive, with a single file or directory in it
    :param final: the path of that file or directory when unpacked
    :returns: the total size of the files in bytes
    :raises TransferFailed: this is no archive, it is empty, or it has paths outside itself
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".firecrest-", dir=final.parent) as beside:
        try:
            with tarfile.open(archive, "r:*") as tar:
                first = tar.next()  # a directory comes before its entries, as "." or under its name
                tar.extractall(beside, filter=_safe_filter)
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise TransferFailed(f"The archive of {final.name} cannot be unpacked: {error}") from None
        # The filter drops a leading slash, so that nothing is written outside. The same is done here.
        root = Path(beside, first.name.lstrip("/") if first else "?")
        if not root.exists() and not root.is_symlink():
            raise TransferFailed(f"The archive of {final.name} is empty.")
        return _move(root, final)


def _safe_filter(member: tarfile.TarInfo, into: str) -> tarfile.TarInfo | None:
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
    job = jobs.as_job(await system.start_transfer(operation, body), operation)
    await jobs.ended(system, job)
