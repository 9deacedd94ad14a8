"""Unpacks an archive from a system, which may be broken or made to do harm.

The archive is unpacked into a new directory beside the target. No link is made there before all files are written, so
nothing is written through one. A link is kept only if its text cannot lead out of the target, wherever other links
lead. Then :mod:`~firecrest_core.transfer.merging` moves what is complete.
"""

from __future__ import annotations

import logging
import os
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from firecrest_core.errors import FileTooLarge, TransferFailed
from firecrest_core.transfer.local_errors import local_errors
from firecrest_core.transfer.merging import Parts, merge
from firecrest_core.transfer.tar_reader import BrokenArchive, TarReader, read_archive

log = logging.getLogger(__name__)

_MOST_FILES = 1_000_000

# Of directories in each other. To remove a deeper tree, Python needs more descriptors than a process may have.
_DEEPEST = 200

# So many members that are left out are named in the log.
_MOST_WARNINGS = 20

# What is unpacked has this name until it is complete.
_NAME = "content"


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """How much an archive may unpack to: a small one can fill a disk.

    :param size: bytes of all files together; ``None`` for nine tenths of what is free on the disk
    :param files: number of files, directories and links; ``None`` for a million
    """

    size: int | None = None
    files: int | None = None


def unpack(archive: Path, final: Path, *, tree: bool, limits: UnpackLimits | None = None) -> int:
    """Unpack an archive to ``final``. Each file gets its name only when the whole archive is unpacked.

    If ``final`` is an existing directory, the content is merged into it, as with ``cp -r``: files of the same name are
    replaced, others stay. Links that could lead out of ``final``, FIFOs and devices are left out, with a warning.

    :param archive: the archive (``tar`` with gzip), with a single file or directory in it
    :param final: the path of that file or directory when unpacked
    :param tree: whether it has to be a directory
    :param limits: how much may be unpacked; the default limits unless given
    :returns: the total size of the files in bytes
    :raises TransferFailed: this is no archive, it is empty, it has paths outside itself, or the disk is full
    :raises FileTooLarge: a limit is passed; nothing of it is left
    :raises LocalFileRefused: something of another kind is where a directory or file should go, or writing is not
        permitted
    """
    with local_errors(final, "written"):
        final.parent.mkdir(parents=True, exist_ok=True)
        budget = _Budget(final.name, limits or UnpackLimits(), shutil.disk_usage(final.parent).free)
        with tempfile.TemporaryDirectory(prefix=".firecrest-", dir=final.parent) as beside:
            place = os.open(beside, os.O_RDONLY | os.O_DIRECTORY)
            try:
                unpacking = _Unpacking(place, final, budget)
                with read_archive(archive) as reader:
                    unpacking.run(reader, tree=tree)
                merge(place, _NAME, list(unpacking.directories), final)
            except BrokenArchive as error:
                raise TransferFailed(f"The archive of {final.name} cannot be unpacked: {error}.") from None
            finally:
                os.close(place)
    return budget.size


class _Budget:
    """Counts what is unpacked.

    :param name: of what is unpacked, for messages
    :param limits: how much may be unpacked
    :param free: bytes that are free on the disk
    :ivar size: bytes of all files
    """

    def __init__(self, name: str, limits: UnpackLimits, free: int) -> None:
        self._name = name
        self._largest = free * 9 // 10 if limits.size is None else limits.size
        self._most = _MOST_FILES if limits.files is None else limits.files
        self._whose = "nine tenths of the free disk" if limits.size is None else "the limit"
        self._count = self._read = 0
        self.size = 0

    def spend(self, member: tarfile.TarInfo) -> None:
        """Count a member.

        :raises FileTooLarge: a limit would be passed
        """
        self.count()
        self._read += member.size
        self.size += member.size if member.isreg() else 0
        if self._read > self._largest:
            raise FileTooLarge(
                f"The archive of {self._name} unpacks to more than {self._largest:,} bytes, {self._whose}. If that is "
                "right, make room, or set max_unpacked_size."
            )

    def count(self) -> None:
        """Count a member, or a directory that the archive only implies.

        :raises FileTooLarge: the limit would be passed
        """
        self._count += 1
        if self._count > self._most:
            raise FileTooLarge(
                f"The archive of {self._name} has more than {self._most:,} files. If that is right, raise "
                "max_unpacked_files."
            )


class _Unpacking:
    """Unpacks the members of an archive. Nobody else writes to the place, and it holds no link until the end.

    :param place: descriptor of an empty directory
    :param final: the path that it will have, for messages
    :param budget: counts the members
    :ivar directories: those of the tree, each after the one above it; none for a file
    """

    def __init__(self, place: int, final: Path, budget: _Budget) -> None:
        self._place = place
        self._final = final
        self._budget = budget
        self._root: Parts | None = None
        self._links: dict[Parts, str] = {}
        self._left_out = 0
        self.directories: dict[Parts, None] = {}

    def run(self, reader: TarReader, *, tree: bool) -> None:
        """Unpack everything.

        :param reader: of the archive
        :param tree: whether a directory is due
        """
        for member in reader:
            self._budget.spend(member)
            path = self._path(member.name)
            if not path and not (member.isdir() if tree else member.isreg()):
                raise BrokenArchive(f"it holds no {'directory' if tree else 'file'}")
            with local_errors(f"{member.name!r} in {self._final}", "written"):
                self._add(reader, member, path)
        if self._root is None:
            raise BrokenArchive("it is empty")
        for path, target in self._links.items():
            with local_errors(f"{'/'.join(path)!r} in {self._final}", "written"):
                self._make_link(path, target)
        if self._left_out > _MOST_WARNINGS:
            log.warning("%s: %d members were left out.", self._final, self._left_out)

    def _path(self, name: str) -> Parts:
        """Return the path of a member below the first one, which is the file or directory itself."""
        parts = _parts(name)
        if self._root is None:
            self._root = parts
        path = parts[len(self._root) :]
        if parts[: len(self._root)] != self._root:
            raise BrokenArchive(f"{name!r} is outside of {'/'.join(self._root)!r}")
        if len(path) > _DEEPEST:
            raise BrokenArchive(f"it has more than {_DEEPEST} directories in each other")
        return path

    def _add(self, reader: TarReader, member: tarfile.TarInfo, path: Parts) -> None:
        if member.isdir():
            self._make_directories(path, named=True)
            return
        if path:
            self._make_directories(path[:-1])
        if path in self._links:
            raise _taken(path)
        if member.isreg():
            self._write(reader, member, path)
        elif member.issym():
            self._links[path] = member.linkname
        elif member.islnk():
            self._make_hard_link(path, member.linkname)
        else:
            self._leave_out(path, "is no file, directory or link")

    def _make_directories(self, path: Parts, *, named: bool = False) -> None:
        """Make a directory and those above it.

        :param path: the directory
        :param named: the archive names it, so it is counted already
        """
        for depth in range(len(path) + 1):
            each = path[:depth]
            if each in self.directories:
                continue
            if not (named and each == path):
                self._budget.count()
            with _new(each):
                os.mkdir(_place(each), dir_fd=self._place)
            if each in self._links:
                raise _taken(each)
            self.directories[each] = None

    def _write(self, reader: TarReader, member: tarfile.TarInfo, path: Parts) -> None:
        # The system's umask applies, as for every new file. The owner may always read and write. No setuid bits.
        mode = member.mode & 0o777 | 0o600
        with _new(path):
            descriptor = os.open(
                _place(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=self._place
            )
        with os.fdopen(descriptor, "wb") as file:
            for piece in reader.read(member):
                file.write(piece)
            file.flush()
            with suppress(OverflowError, ValueError, OSError):  # a time that the file system cannot have
                os.utime(descriptor, (member.mtime, member.mtime))

    def _make_hard_link(self, path: Parts, linkname: str) -> None:
        root = self._root or ()
        target = _parts(linkname)
        other = target[len(root) :]
        if target[: len(root)] != root or other in self.directories:
            self._leave_out(path, "is a hard link to what is not in the archive")
        elif other in self._links:
            self._links[path] = self._links[other]
        else:
            try:
                with _new(path):
                    os.link(
                        _place(other),
                        _place(path),
                        src_dir_fd=self._place,
                        dst_dir_fd=self._place,
                        follow_symlinks=False,
                    )
            except (FileNotFoundError, NotADirectoryError):
                self._leave_out(path, "is a hard link to what is not in the archive")

    def _make_link(self, path: Parts, target: str) -> None:
        """Make a symbolic link, unless it leads out.

        ``..`` stays only at the beginning of its text, where it leads upwards from the link's own directory. So
        wherever other links lead, this one does not lead further up.
        """
        text = posixpath.normpath(target)
        upwards = sum(part == ".." for part in text.split("/"))
        if text.startswith("/") or upwards >= len(path):
            self._leave_out(path, "is a link that leads out of the directory")
            return
        with _new(path):
            os.symlink(text, _place(path), dir_fd=self._place)

    def _leave_out(self, path: Parts, reason: str) -> None:
        self._left_out += 1
        if self._left_out <= _MOST_WARNINGS:
            log.warning("%s: %r is left out: it %s.", self._final, "/".join(path), reason)


def _parts(name: str) -> Parts:
    """Return the components of a name in an archive. As ``tar`` does, it drops a leading slash.

    :raises BrokenArchive: no file has such a name, or it leads out of the archive
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts or "\0" in name:
        raise BrokenArchive(f"{name!r} is no path inside of it")
    return parts


def _place(path: Parts) -> str:
    return "/".join((_NAME, *path))


@contextmanager
def _new(path: Parts) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise _taken(path) from None
    except ValueError as error:  # no file can have this name, or this text if it is a link
        raise BrokenArchive(f"{'/'.join(path)!r}: {error}") from None


def _taken(path: Parts) -> BrokenArchive:
    return BrokenArchive(f"it has {'/'.join(path)!r} twice, or another name that is the same for the local file system")
