"""An unfinished download: a file beside the final name, and a note of the parts that are complete.

Both have names that can be foreseen, so that the next attempt finds them, and others may be able to write to the
directory. So neither is opened through a link, and what is not a file of the user alone counts for nothing. Nobody else
may read them.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from firecrest_core.errors import TransferFailed
from firecrest_core.transfer.limits import MIB, Part
from firecrest_core.transfer.local_errors import local_errors

# Nothing is there, or a link, a directory, a socket, or a file of somebody else.
_OTHERS = (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM)


class PartialFile:
    """A file that gets its name when it is complete.

    After an interruption, the next attempt for the same content and the same name continues it.

    :param final: the path that the file will have
    :param content: a text that identifies the content: it must change with the content
    :param parts: the parts in which it is downloaded
    """

    def __init__(self, final: Path, content: str, parts: list[Part]) -> None:
        self.final = final
        self.parts = parts
        # A hash, because the final name may already have the greatest possible length.
        key = sha256(f"{final.name}\n{content}\n{[part.size for part in parts]}".encode()).hexdigest()[:16]
        self.path = final.with_name(f".firecrest-{key}.part")
        self._note = final.with_name(f".firecrest-{key}.json")
        self._whole: set[int] = set()

    def begin(self) -> list[Part]:
        """Create the file, or find what an earlier attempt has left.

        :returns: the parts that have to be fetched
        :raises LocalFileRefused: writing is not permitted
        :raises TransferFailed: the disk is full
        """
        size = self.parts[-1].stop if self.parts else 0
        with local_errors(self.final, "written"):
            try:
                with _opened(self.path) as file:
                    if os.fstat(file).st_size == size:
                        self._whole = _read_note(self._note)
                    os.ftruncate(file, size)
            except _NotOurs:
                with _created(self.path) as file:
                    os.ftruncate(file, size)
        return [part for part in self.parts if part.number not in self._whole]

    async def write(self, at: int, data: bytes) -> None:
        """Write bytes at an offset in the file."""
        await asyncio.to_thread(self.write_now, at, data)

    def write_now(self, at: int, data: bytes) -> None:
        """Write bytes at an offset in the file, in this thread."""
        with self._file() as file:
            while data:
                written = os.pwrite(file, data, at)
                at, data = at + written, data[written:]

    async def whole(self, part: Part) -> None:
        """Note that a part is complete, after it is on the disk."""
        await asyncio.to_thread(self._sync)
        self._whole.add(part.number)
        draft = self._note.with_suffix(".new")
        with local_errors(self.final, "written"):
            with _created(draft) as file:
                os.write(file, json.dumps(sorted(self._whole)).encode())
            draft.replace(self._note)

    def _sync(self) -> None:
        with self._file() as file:
            os.fsync(file)

    def check(self) -> tuple[int, str]:
        """Return the size in bytes and the SHA-256 in hexadecimal of what was written."""
        with self._file() as file:
            return os.fstat(file).st_size, _hash(file)

    def finish(self) -> None:
        """Give the file its final name, and the permissions of a new file."""
        with self._file() as file:
            os.fchmod(file, _usual_mode(self.final.parent))
            os.fsync(file)
            self.path.replace(self.final)
            self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file and the note, because the content is wrong."""
        with local_errors(self.path, "removed"):
            self.path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)

    @contextmanager
    def _file(self) -> Iterator[int]:
        try:
            with local_errors(self.final, "written"), _opened(self.path) as file:
                yield file
        except _NotOurs:
            raise TransferFailed(
                f"{self.path} was removed or replaced while {self.final.name} was downloaded. Try again."
            ) from None


def write_whole(final: Path, content: bytes) -> None:
    """Write a file. It gets its name only when it is complete and on the disk.

    :param final: the path of the file
    :param content: its content
    :raises LocalFileRefused: a directory has this name, or writing is not permitted
    :raises TransferFailed: the disk is full
    """
    part = PartialFile(final, uuid4().hex, [])
    try:
        part.begin()
        part.write_now(0, content)
        part.finish()
    except BaseException:
        part.discard()
        raise


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a local file in hexadecimal."""
    with local_errors(path, "read"), path.open("rb") as file:
        return _hash(file.fileno())


def _hash(file: int) -> str:
    digest = sha256()
    at = 0
    while chunk := os.pread(file, MIB, at):
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()


class _NotOurs(Exception):
    """There is no file, or somebody else may have made it or may write to it."""


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file that :func:`_created` has made.

    :raises _NotOurs: it is another one
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _OTHERS:
            raise _NotOurs from None
        raise
    try:
        found = os.fstat(file)
        private = stat.S_ISREG(found.st_mode) and not found.st_mode & 0o077 and found.st_nlink == 1
        if not private or found.st_uid != os.geteuid():
            raise _NotOurs
        yield file
    finally:
        os.close(file)


@contextmanager
def _created(path: Path) -> Iterator[int]:
    """Create a file that nobody else may read, in place of what is there."""
    with local_errors(path, "created"):
        path.unlink(missing_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(file, 0o600)  # the umask may have taken more away
        yield file
    finally:
        os.close(file)


def _read_note(path: Path) -> set[int]:
    with suppress(_NotOurs, ValueError, TypeError), _opened(path) as file:
        return set(json.loads(os.read(file, os.fstat(file).st_size)))
    return set()


def _usual_mode(directory: Path) -> int:
    """Return the permissions that a new file in a directory has, by the umask or the directory's own rules."""
    probe = directory / f".firecrest-{uuid4().hex}"
    file = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        return stat.S_IMODE(os.fstat(file).st_mode)
    finally:
        os.close(file)
        probe.unlink()
