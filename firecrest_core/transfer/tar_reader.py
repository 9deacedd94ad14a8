"""Reads an archive that may be broken, or made to fill the memory or to keep its reader busy without end."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from firecrest_core.transfer.limits import MIB

T = TypeVar("T")

# Bytes of all headers of one member. Long names, attributes and maps of sparse files are shorter.
_LARGEST_HEADER = 256 * 1024


class BrokenArchive(Exception):
    """The archive cannot be unpacked. The message is the reason."""


@contextmanager
def read_archive(archive: Path) -> Iterator[TarReader]:
    """Open an archive.

    :param archive: ``tar`` with gzip
    :raises BrokenArchive: it is no archive
    """
    with _Content(archive) as content:
        yield TarReader(content)


class TarReader:
    """The members of an archive, in order. Each may be read before the next one is asked for.

    :param content: the archive's content
    """

    def __init__(self, content: _Content) -> None:
        self._content = content
        self._tar = _parsed(lambda: _Members(fileobj=content))

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        last = -1
        while (member := self._next()) is not None:
            if member.offset <= last or member.size < 0:
                raise BrokenArchive("it leads back to what was read already")
            last = member.offset
            yield member

    def _next(self) -> tarfile.TarInfo | None:
        self._content.allowance = _LARGEST_HEADER
        member = _parsed(self._tar.next)
        self._tar.members.clear()  # they would fill the memory
        if self._tar.pax_headers:
            raise BrokenArchive("it has attributes for all of its members")
        if member is None:
            self._check_end()
        return member

    def _check_end(self) -> None:
        if self._content.last_read != bytes(tarfile.BLOCKSIZE):
            raise BrokenArchive("its end is missing")
        # The padding behind the end, and gzip's checksum behind that.
        self._content.allowance = _LARGEST_HEADER
        self._content.read(_LARGEST_HEADER)

    def read(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        """Return the content of a regular file in pieces.

        :param member: the last one
        :raises BrokenArchive: the archive ends within it
        """
        self._content.allowance = member.size
        file = _parsed(lambda: self._tar.extractfile(member))
        left = member.size
        while left and file is not None:
            piece: bytes = _parsed(lambda: file.read(min(MIB, left)))  # noqa: B023 (called at once)
            if not piece:
                raise BrokenArchive("it ends within a file")
            left -= len(piece)
            yield piece


class _Members(tarfile.TarFile):
    members: list[tarfile.TarInfo]


class _Content(gzip.GzipFile):
    """The content of an archive.

    ``tarfile`` reads the headers of a member at once, of any size and number, so what it may read is limited.

    :ivar allowance: bytes that may be read
    """

    allowance = _LARGEST_HEADER
    last_read = b""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self.allowance:
            raise BrokenArchive("its headers are too large")
        self.allowance -= size
        self.last_read = _decompressed(lambda: super(_Content, self).read(size))
        return self.last_read

    def seek(self, offset: int, whence: int = 0) -> int:
        return _decompressed(lambda: super(_Content, self).seek(offset, whence))


def _decompressed(read: Callable[[], T]) -> T:
    try:
        return read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BrokenArchive(str(error)) from None


def _parsed(parse: Callable[[], T]) -> T:
    try:
        return parse()
    except (BrokenArchive, OSError, MemoryError):
        raise
    except Exception as error:  # whatever tarfile runs into when it parses bytes that make no sense
        raise BrokenArchive(f"{type(error).__name__}: {error}") from None
