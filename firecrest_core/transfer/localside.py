"""The local side of a transfer: local paths, or paths in an object store.

Any object with the methods of :class:`StoredPath` is accepted as a path in an object store, for example Airflow's
``ObjectStoragePath`` and universal-pathlib's ``UPath``. Content from or for a store passes through the local temporary
directory (``TMPDIR``), which must have room for it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol, Self, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from firecrest_core.errors import LocalFileNotFound

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


def as_local_path(path: LocalPath) -> Path | StoredPath:
    """Convert a path to ``pathlib.Path`` if it is local.

    :param path: a path or a ``file:`` URL as text, or a path object
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
        return Path(urlsplit(path).path if scheme else path)
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
    """
    here = as_local_path(path)
    if not await asyncio.to_thread(lambda: here.is_file() or here.is_dir()):
        raise LocalFileNotFound(f"{path}: no such file or directory on this side. Check the path.")
    return here


async def destination(path: LocalPath, name: str) -> Path | StoredPath:
    """Return the path for a download, by the rules of ``cp``, and create its parent directories.

    :param path: the target as the caller gave it
    :param name: the source's name
    :returns: ``path`` itself, or ``path``/``name`` if ``path`` is a directory or ends in ``/``
    :raises LocalFileNotFound: ``path`` is a URL as text
    """

    def find() -> Path | StoredPath:
        here = as_local_path(path)
        place = here / name if str(path).endswith("/") or here.is_dir() else here
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    return await asyncio.to_thread(find)


@asynccontextmanager
async def on_disk(path: Path | StoredPath) -> AsyncIterator[Path]:
    """Provide a local path with the content of ``path``."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="firecrest-") as spool:
        here = Path(spool) / "content"
        await asyncio.to_thread(_copy, path, here)
        yield here


@asynccontextmanager
async def staged_target(place: Path | StoredPath) -> AsyncIterator[Path]:
    """Provide a local path. If no error occurs, what is written there is at ``place`` afterwards."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="firecrest-") as spool:
        here = Path(spool) / "content"
        yield here
        await asyncio.to_thread(_copy, here, place)


def _copy(origin: Path | StoredPath, target: Path | StoredPath) -> None:
    if origin.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for entry in origin.iterdir():
            _copy(entry, target / entry.name)
        return
    try:
        with origin.open("rb") as reader, target.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1024 * 1024)
    except BaseException:
        # When a store's writer is closed, it commits what it has, complete or not.
        with suppress(Exception):
            target.unlink()
        raise
