"""Packs a local file or directory into an archive."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from firecrest_core.errors import LocalFileNotFound, LocalFileRefused, TransferFailed
from firecrest_core.transfer.local_errors import local_errors

# The lowest compression level: it saves bandwidth for little processor time.
_LEVEL = 1

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def refuse_odd_kind(path: object, mode: int) -> None:
    """Refuse what has no content that could be uploaded.

    :param path: the path, for the message
    :param mode: ``st_mode`` of it
    :raises LocalFileRefused: it is a FIFO, a socket or a device
    """
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind is not None:
        raise LocalFileRefused(f"{path} is {kind}, and only files and directories are uploaded. Remove it.")


def pack(source: Path, name: str, archive: Path) -> int:
    """Write a file or directory into an archive. Symbolic links inside a directory stay links, as with ``cp -r``.

    :param source: the file or directory; if it is itself a link, its target is packed
    :param name: its name in the archive
    :param archive: the archive to write
    :returns: the total size of its files in bytes
    :raises LocalFileRefused: something in it is not readable, or is a FIFO, a socket or a device
    :raises TransferFailed: it changes while it is packed, or the disk is full
    """
    size = 0
    with (
        local_errors(f"An archive of {source} in the temporary directory", "written (TMPDIR chooses another)"),
        tarfile.open(archive, "w:gz", compresslevel=_LEVEL) as tar,
    ):
        for path, arcname in _walk(source.resolve(), name):
            size += _add(tar, path, arcname)
    return size


def _walk(top: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Return each path of a tree with its name in the archive, a directory before what is in it."""
    waiting = [(top, name)]
    while waiting:
        path, arcname = waiting.pop()
        yield path, arcname
        if path.is_dir() and not path.is_symlink():
            with _unchanged(path):
                entries = sorted(os.listdir(path), reverse=True)  # noqa: PTH208 (names are all it takes)
            waiting.extend((path / entry, f"{arcname}/{entry}") for entry in entries)


def _add(tar: tarfile.TarFile, path: Path, arcname: str) -> int:
    """Add one path, and return its size."""
    with _unchanged(path):
        mode = path.lstat().st_mode
        refuse_odd_kind(path, mode)
        if stat.S_ISREG(mode):
            content = open(path, "rb", opener=_open_now)  # noqa: SIM115 (Path.open takes no opener)
        else:
            member = tar.gettarinfo(path, arcname)
    if stat.S_ISREG(mode):
        with content:
            return _add_file(tar, content, path, arcname)
    tar.addfile(member)
    return 0


def _open_now(path: str, flags: int) -> int:
    """Open a file that may be replaced at this moment: a link is not followed, and a FIFO does not block."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _add_file(tar: tarfile.TarFile, content: BinaryIO, path: Path, arcname: str) -> int:
    member = tar.gettarinfo(arcname=arcname, fileobj=content)
    refuse_odd_kind(path, member.mode)
    if not member.isreg():  # another name of a file that is already in the archive
        tar.addfile(member)
        return 0
    try:
        tar.addfile(member, content)
    except OSError:
        if os.fstat(content.fileno()).st_size < member.size:
            raise TransferFailed(
                f"{path} became shorter while it was packed. Upload it again when nothing writes to it."
            ) from None
        raise
    return member.size


@contextmanager
def _unchanged(path: Path) -> Iterator[None]:
    try:
        with local_errors(path, "read"):
            yield
    except LocalFileNotFound:
        raise TransferFailed(
            f"{path} vanished while its directory was packed. Upload it again when nothing changes in it."
        ) from None
