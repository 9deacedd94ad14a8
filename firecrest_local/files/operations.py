"""Operations on files, done in Python, with the errors of the commands that a cluster would run."""

# Clients' paths are text here: the commands' messages show them as they were written.
# ruff: noqa: PTH101, PTH102, PTH103, PTH108, PTH112, PTH116, PTH118, PTH119, PTH211

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from firecrest_local.errors import ApiError, OutputTooLarge, RemoteError
from firecrest_local.files import archives
from firecrest_local.files.confinement import Confinement
from firecrest_local.files.file_type import file_type
from firecrest_local.files.lines import end_of_first_lines, start_of_last_lines
from firecrest_local.files.listing import directory_rows, file_row
from firecrest_local.files.opening import open_regular

#: The largest id of a user or a group that the kernel knows.
_LARGEST_ID = 2**32 - 2


class FileOperations:
    """The operations of clients on files.

    :param confinement: the paths that exist for clients.
    :param output_limit: bytes of output that the server reads from one command.
    """

    def __init__(self, confinement: Confinement, output_limit: int) -> None:
        self._confinement = confinement
        self._output_limit = output_limit

    # --- reading

    def ls(self, path: str, *, hidden: bool, numeric: bool, recursive: bool, dereference: bool) -> list[dict[str, Any]]:
        """List a directory, or a single file."""
        self._check(path, f"ls: cannot open directory '{path}'", status=2)
        try:
            if not os.path.isdir(path):
                row = file_row(path, path, numeric=numeric, follow=dereference)
                return [] if row is None else [row]
            return list(
                directory_rows(
                    path,
                    self._confinement,
                    hidden=hidden,
                    numeric=numeric,
                    recursive=recursive,
                    follow=dereference,
                )
            )
        except PermissionError as error:
            raise RemoteError(2, f"ls: cannot open directory '{path}': {error.strerror}") from None
        except OSError as error:
            raise RemoteError(2, f"ls: cannot access '{path}': {error.strerror}") from None

    def stat(self, path: str, *, dereference: bool) -> dict[str, int]:
        """Return the numbers that the command `stat` prints. Times are Unix times."""
        self._check(path, f"stat: cannot statx '{path}'", follow=dereference)
        try:
            info = os.stat(path) if dereference else os.lstat(path)
        except OSError as error:
            raise RemoteError(1, f"stat: cannot statx '{path}': {error.strerror}") from None
        names = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "ctime", "mtime")
        return {name: int(getattr(info, f"st_{name}")) for name in names}

    def checksum(self, path: str) -> dict[str, str]:
        """Compute the SHA-256 of a file."""
        digest = hashlib.sha256()
        with self._opened(path, f"sha256sum: {path}", f"sha256sum: {path}") as file:
            while block := file.read(1024 * 1024):
                digest.update(block)
        if len(path.split()) != 1:
            # The real server counts the words of the command's output.
            raise ApiError(500, f"Invalid output: {digest.hexdigest()}  {path}\n ")
        # sha256sum begins its line with a backslash if it escapes the name. The real server takes the first word.
        mark = "\\" if "\\" in path else ""
        return {"algorithm": "SHA256", "checksum": mark + digest.hexdigest()}

    def file(self, path: str) -> str:
        """Guess the type of a file."""
        self._check(path, f"file: cannot open `{path}'", follow=False)
        return file_type(path)

    def head(self, path: str, *, size: int | None, lines: int | None, skip: bool) -> str:
        """Read the first part of a file, or with `skip` all but the last part."""
        with self._opened(path, f"head: cannot open '{path}' for reading", f"head: error reading '{path}'") as file:
            if size is not None:
                end = max(_size(file) - size, 0) if skip else size
            else:
                count = 10 if lines is None else lines
                end = start_of_last_lines(file, count) if skip else end_of_first_lines(file, count)
            return self._text(file, 0, end)

    def tail(self, path: str, *, size: int | None, lines: int | None, skip: bool) -> str:
        """Read the last part of a file, or with `skip` all from the given byte or line (counted from 1)."""
        with self._opened(path, f"tail: cannot open '{path}' for reading", f"tail: error reading '{path}'") as file:
            if size is not None:
                start = max(size - 1 if skip else _size(file) - size, 0)
            else:
                count = 10 if lines is None else lines
                start = end_of_first_lines(file, count - 1) if skip else start_of_last_lines(file, count)
            return self._text(file, start)

    def view(self, path: str, *, size: int, offset: int) -> str:
        """Read a window of a file. The real server reads whole blocks of `size` bytes and cuts by characters."""
        start = offset // size * size
        with self._opened(path, f"dd: failed to open '{path}'", f"dd: error reading '{path}'") as file:
            return self._text(file, start, start + 2 * size)[offset % size :][:size]

    def download(self, path: str) -> bytes:
        """Read the bytes of a small file."""
        with self._opened(path, f"base64: {path}", "base64: read error") as file:
            if (_size(file) + 2) // 3 * 4 >= self._output_limit:
                raise OutputTooLarge
            return self._part(file)

    # --- changing

    def upload(self, directory: str, name: str, data: bytes) -> None:
        """Write a file. An existing one is overwritten."""
        path = f"{directory}/{name}"
        # Only the normal form is checked, and `..` behind a link leads elsewhere.
        normal = self._confinement.path(path)
        self._check(normal, f"bash: line 1: {path}")
        try:
            with open_regular(normal, "wb") as file:
                file.write(data)
        except OSError as error:
            raise RemoteError(1, f"bash: line 1: {path}: {error.strerror}") from None

    def mkdir(self, path: str, *, parent: bool) -> dict[str, Any] | None:
        """Make a directory, and with `parent` its missing parents."""
        self._check(path, f"mkdir: cannot create directory '{path}'")
        try:
            if parent:
                os.makedirs(path, exist_ok=True)
            else:
                os.mkdir(path)
        except OSError as error:
            raise RemoteError(1, f"mkdir: cannot create directory '{path}': {error.strerror}") from None
        return file_row(path, path)

    def symlink(self, path: str, link: str) -> dict[str, Any] | None:
        """Make a link to `path`. This is one step, which fails when the link exists."""
        self._check(path, f"ln: failed to access '{path}'", follow=False)
        self._check(link, f"ln: failed to create symbolic link '{link}'", follow=os.path.isdir(link))
        place = os.path.join(link, os.path.basename(path)) if os.path.isdir(link) else link
        try:
            os.symlink(path, place)
        except OSError as error:
            raise RemoteError(1, f"ln: failed to create symbolic link '{place}': {error.strerror}") from None
        return file_row(link, link)

    def chmod(self, path: str, mode: str) -> dict[str, Any] | None:
        """Change permissions; `mode` is octal."""
        self._check(path, f"chmod: changing permissions of '{path}'")
        try:
            number = int(mode, 8)
        except ValueError:
            number = -1
        if not 0 <= number <= 0o7777:
            raise RemoteError(1, f"chmod: invalid mode: '{mode}'\nTry 'chmod --help' for more information.")
        try:
            os.chmod(path, number)
        except FileNotFoundError as error:
            raise RemoteError(1, f"chmod: cannot access '{path}': {error.strerror}") from None
        except OSError as error:
            raise RemoteError(1, f"chmod: changing permissions of '{path}': {error.strerror}") from None
        return file_row(path, path)

    def chown(self, path: str, owner: str, group: str) -> dict[str, Any] | None:
        """Change owner and group. An empty name changes nothing."""
        self._check(path, f"chown: changing ownership of '{path}'")
        try:
            uid = _id(owner, lambda name: pwd.getpwnam(name).pw_uid)
        except (KeyError, ValueError):
            raise RemoteError(1, f"chown: invalid user: '{owner}:{group}'") from None
        try:
            gid = _id(group, lambda name: grp.getgrnam(name).gr_gid)
        except (KeyError, ValueError):
            raise RemoteError(1, f"chown: invalid group: '{owner}:{group}'") from None
        try:
            os.chown(path, uid, gid)
        except FileNotFoundError as error:
            raise RemoteError(1, f"chown: cannot access '{path}': {error.strerror}") from None
        except OSError as error:
            raise RemoteError(1, f"chown: changing ownership of '{path}': {error.strerror}") from None
        return file_row(path, path)

    def rm(self, path: str) -> None:
        """Remove a file, a link or a whole directory."""
        self._check(path, f"rm: cannot remove '{path}'", follow=False)
        if path == self._confinement.root:
            raise RemoteError(1, f"rm: cannot remove '{path}': Operation not permitted")
        try:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except OSError as error:
            raise RemoteError(1, f"rm: cannot remove '{path}': {error.strerror}") from None

    def compress(
        self,
        source: str,
        target: str,
        *,
        compression: archives.Compression,
        pattern: str | None,
        dereference: bool,
    ) -> None:
        """Pack `source` into the archive `target`."""
        self._check(source, f"tar: {source}: Cannot open", follow=source.endswith("/."), status=2)
        self._check(target, f"tar: {target}: Cannot open", status=2)
        archives.compress(
            source,
            target,
            self._confinement,
            compression=compression,
            pattern=pattern,
            dereference=dereference,
        )

    def extract(self, source: str, target: str) -> None:
        """Unpack the archive `source` into the directory `target`."""
        self._check(source, f"tar: {source}: Cannot open", status=2)
        self._check(target, f"tar: {target}: Cannot open", status=2)
        archives.extract(source, target)

    # --- common

    def _check(self, path: str, message: str, *, follow: bool = True, status: int = 1) -> None:
        """Refuse a single quote, which breaks the real server's shell line, and a link that leads out."""
        if "'" in path:
            raise RemoteError(2, "bash: -c: line 1: unexpected EOF while looking for matching `''")
        if not self._confinement.holds(path, follow=follow):
            raise RemoteError(status, f"{message}: Permission denied")

    @contextmanager
    def _opened(self, path: str, cannot_open: str, cannot_read: str) -> Iterator[BinaryIO]:
        self._check(path, cannot_open)
        try:
            with open_regular(path, "rb") as file:
                yield file
        except IsADirectoryError as error:
            raise RemoteError(1, f"{cannot_read}: {error.strerror}") from None
        except OSError as error:
            raise RemoteError(1, f"{cannot_open}: {error.strerror}") from None

    def _text(self, file: BinaryIO, start: int, end: int | None = None) -> str:
        return self._part(file, start, end).decode(errors="replace")

    def _part(self, file: BinaryIO, start: int = 0, end: int | None = None) -> bytes:
        """Read from one position to another. What is too large for an answer is not read at all."""
        size = _size(file)
        start, end = min(start, size), size if end is None else min(end, size)
        if end - start >= self._output_limit:
            raise OutputTooLarge
        file.seek(start)
        return file.read(end - start)


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _id(name: str, look_up: Any) -> int:
    """Return the numeric id of a name. A number stays as it is; an empty name gives -1 (no change)."""
    if not name:
        return -1
    number = int(name) if name.isdecimal() else int(look_up(name))
    if number > _LARGEST_ID:
        raise ValueError(f"not an id: {name!r}")
    return number
