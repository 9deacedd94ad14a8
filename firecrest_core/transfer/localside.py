"""The local side of a transfer: local paths, or paths in an object store.

Any object with the methods of :class:`StoredPath` is accepted as a path in an object store, for example Airflow's
``ObjectStoragePath`` and universal-pathlib's ``UPath``. Content from or for a store passes through the local temporary
directory (``TMPDIR``), which must have room for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol, Self, TypeAlias, TypeVar, cast, runtime_checkable
from urllib.parse import urlsplit

from firecrest_core.errors import InvalidFileName, LocalFileNotFound, TransferFailed
from firecrest_core.transfer.local_errors import local_errors
from firecrest_core.transfer.merging import check_kind
from firecrest_core.transfer.packing import refuse_odd_kind

log = logging.getLogger(__name__)

_LOCAL_PROTOCOLS = ("", "file", "local")


@runtime_checkable
class StoredPath(Protocol):
    """A path in an object store, with the methods of ``pathlib.Path`` that a transfer needs."""

    @property
    def name(self) -> str:
        """The final component."""

    @property
    def parent(self) -> Self:
        """The directory of the path."""

    def __truediv__(self, name: str) -> Self: ...

    def open(self, mode: str) -> IO[Any]:
        """Open the file with mode ``rb`` or ``wb``."""

    def is_file(self) -> bool:
        """Tell whether it is a file."""

    def is_dir(self) -> bool:
        """Tell whether it is a directory."""

    def iterdir(self) -> Iterator[Self]:
        """Return the paths in the directory."""

    def mkdir(self, *, parents: bool, exist_ok: bool) -> None:
        """Create the directory."""

    def unlink(self) -> None:
        """Remove the file."""


LocalPath: TypeAlias = str | os.PathLike[str] | StoredPath
_Path = TypeVar("_Path")


def expand_home(path: _Path) -> _Path:
    """Return a text that is ``~`` or begins with ``~/`` with the user's home directory, and any other path as it is.

    :param path: a path as the caller gave it
    """
    if isinstance(path, str) and (path == "~" or path.startswith("~/")):
        return cast("_Path", os.path.expanduser(path))  # noqa: PTH111 (a slash at the end means something)
    return path


def as_local_path(path: LocalPath) -> Path | StoredPath:
    """Convert a path to ``pathlib.Path`` if it is local.

    :param path: a path, perhaps from ``~``, or a ``file:`` URL as text, or a path object
    :returns: a local path, or the path object of a store
    :raises LocalFileNotFound: the text is another URL, which lacks the credentials for the store
    """
    if isinstance(path, str):
        scheme = urlsplit(path).scheme if "://" in path else ""
        if scheme not in _LOCAL_PROTOCOLS:
            raise LocalFileNotFound(
                f"{path} is no local path. For an object store give a path object, such as Airflow's "
                "ObjectStoragePath or a UPath."
            )
        return Path(urlsplit(path).path if scheme else expand_home(path))
    if getattr(path, "protocol", "") in _LOCAL_PROTOCOLS:
        return Path(path) if isinstance(path, os.PathLike) else Path(str(getattr(path, "path", path)))
    if isinstance(path, StoredPath):
        return path
    return Path(path)


def own_name(path: Path | StoredPath) -> str:
    """Return the final component of a path, resolving ``.`` and ``data/..``."""
    if isinstance(path, Path) and path.name in ("", ".."):
        return path.resolve().name
    return path.name


async def source(path: LocalPath) -> Path | StoredPath:
    """Return the path of the file or directory to upload.

    :param path: as the caller gave it
    :raises LocalFileNotFound: it does not exist
    :raises LocalFileRefused: it cannot be read, or is neither a file nor a directory
    """

    def find() -> Path | StoredPath:
        here = as_local_path(path)
        with local_errors(path, "read"):
            if isinstance(here, Path):
                _check_readable(here)
            elif not (here.is_file() or here.is_dir()):
                raise LocalFileNotFound(f"{path}: no such file or directory in the object store. Check the path.")
        return here

    return await asyncio.to_thread(find)


def _check_readable(path: Path) -> None:
    try:
        refuse_odd_kind(path, path.stat().st_mode)
    except FileNotFoundError:
        if path.is_symlink():
            raise LocalFileNotFound(f"{path} is a link to {path.readlink()}, which does not exist. Mend it.") from None
        raise LocalFileNotFound(f"{path}: no such file or directory on this side. Check the path.") from None
    except ValueError as error:
        raise InvalidFileName(f"{str(path)!r}: {error}. Check the path.") from None
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def read_file(path: Path, size: int) -> bytes:
    """Return the content of a file that has to have a size.

    :param path: the file
    :param size: its size in bytes when the transfer began
    :raises TransferFailed: it has another one now
    """
    with local_errors(path, "read"), path.open("rb") as file:
        content = file.read(size + 1)
    if len(content) != size:
        raise TransferFailed(f"{path} changed while it was read. Upload it again when nothing writes to it.")
    return content


async def destination(path: LocalPath, name: str, *, tree: bool, exact: bool = False) -> Path | StoredPath:
    """Return the path for a download, by the rules of ``cp``, and create its parent directories.

    :param path: the target as the caller gave it
    :param name: the source's name
    :param tree: whether the source is a directory
    :param exact: ``path`` is the new name, also where a directory is there
    :returns: ``path`` itself, or ``path``/``name`` if ``path`` is a directory or ends in ``/`` and is not ``exact``
    :raises LocalFileNotFound: ``path`` is a URL as text
    :raises LocalFileRefused: something of another kind is there, or writing is not permitted
    """

    def find() -> Path | StoredPath:
        here = as_local_path(path)
        try:
            with local_errors(path, "written"):
                into = not exact and (str(path).endswith("/") or here.is_dir())
                place = here / name if into else here
                place.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(place, Path):
                    check_kind(place, tree=tree)
        except ValueError as error:
            raise InvalidFileName(f"{str(path)!r}: {error}. Check the path.") from None
        return place

    return await asyncio.to_thread(find)


@contextmanager
def spool(beside: Path | None = None) -> Iterator[Path]:
    """Provide a new directory that nobody else may read, and remove it at the end.

    :param beside: the directory in which it is made; the temporary directory (``TMPDIR``) unless given
    """
    with local_errors(beside or "The temporary directory (TMPDIR)", "written"):
        directory = tempfile.TemporaryDirectory(prefix=".firecrest-" if beside else "firecrest-", dir=beside)
    with directory as path:
        yield Path(path)


@asynccontextmanager
async def on_disk(path: Path | StoredPath) -> AsyncIterator[Path]:
    """Provide a local path with the content of ``path``."""
    if isinstance(path, Path):
        yield path
        return
    with spool() as directory:
        here = directory / "content"
        await asyncio.to_thread(_copy, path, here)
        yield here


@asynccontextmanager
async def staged_target(place: Path | StoredPath) -> AsyncIterator[Path]:
    """Provide a local path. If no error occurs, what is written there is at ``place`` afterwards."""
    if isinstance(place, Path):
        yield place
        return
    with spool() as directory:
        here = directory / "content"
        yield here
        await asyncio.to_thread(_copy, here, place)


def _copy(origin: Path | StoredPath, target: Path | StoredPath) -> None:
    with local_errors(target, "written"):
        if not origin.is_dir():
            _copy_file(origin, target)
            return
        target.mkdir(parents=True, exist_ok=True)
        for entry in origin.iterdir():
            if entry.name in ("", ".", "..") or "/" in entry.name or "\0" in entry.name:
                raise InvalidFileName(f"{origin} has an entry {entry.name!r}, which is no file name. Rename it.")
            if isinstance(entry, Path) and entry.is_symlink() and not entry.is_file():
                # A store has no links. What a link to a file points to is inside: unpacking has left out all others.
                log.warning("%s is left out: an object store has no links to directories.", target / entry.name)
                continue
            _copy(entry, target / entry.name)


def _copy_file(origin: Path | StoredPath, target: Path | StoredPath) -> None:
    try:
        with origin.open("rb") as reader, target.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1024 * 1024)
    except BaseException:
        # When a store's writer is closed, it commits what it has, complete or not.
        with suppress(Exception):
            target.unlink()
        raise
