"""Our side of a transfer: local paths, or paths in an object store.

Whatever has the methods of :class:`StoredPath` will do, such as Airflow's ``ObjectStoragePath`` and
universal-pathlib's ``UPath``. Content from or for a store passes through the local temporary directory
(``TMPDIR``), which must have room for it.
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
    """The part of ``pathlib.Path`` that a path in an object store needs."""

    @property
    def name(self) -> str: ...
    @property
    def parent(self) -> Self: ...
    def __truediv__(self, name: str) -> Self: ...
    def open(self, mode: str) -> IO[Any]: ...
    def is_file(self) -> bool: ...
    def is_dir(self) -> bool: ...
    def iterdir(self) -> Iterator[Self]: ...
    def mkdir(self, *, parents: bool, exist_ok: bool) -> None: ...
    def unlink(self) -> None: ...


LocalPath: TypeAlias = str | os.PathLike[str] | StoredPath


def as_local_path(path: LocalPath) -> Path | StoredPath:
    """Return ``path`` as a local path where it is one.

    :raises LocalFileNotFound: for the text of a URL, which says neither how nor as whom to reach the store
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
    """Return the final component, also of ``.`` and ``data/..``."""
    if isinstance(path, Path) and path.name in ("", ".."):
        return path.resolve().name
    return path.name


async def source(path: LocalPath) -> Path | StoredPath:
    """Return what is to be sent.

    :raises LocalFileNotFound: when there is no such file or directory
    """
    here = as_local_path(path)
    if not await asyncio.to_thread(lambda: here.is_file() or here.is_dir()):
        raise LocalFileNotFound(f"{path}: no such file or directory on this side. Check the path.")
    return here


async def destination(path: LocalPath, name: str) -> Path | StoredPath:
    """Return where what comes down goes, as ``cp`` would.

    Into ``path`` under its own ``name`` where ``path`` is a directory or ends in ``/``, else to ``path`` itself.
    Directories that are missing on the way are made.
    """

    def find() -> Path | StoredPath:
        here = as_local_path(path)
        place = here / name if str(path).endswith("/") or here.is_dir() else here
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    return await asyncio.to_thread(find)


@asynccontextmanager
async def on_disk(path: Path | StoredPath) -> AsyncIterator[Path]:
    """Give a local path with the content of ``path``."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="firecrest-") as spool:
        here = Path(spool) / "content"
        await asyncio.to_thread(_copy, path, here)
        yield here


@asynccontextmanager
async def staged_target(place: Path | StoredPath) -> AsyncIterator[Path]:
    """Give a local path; what is put there ends up at ``place``, if all goes well."""
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
        # A store's writer commits what it has when it is closed, cut or not.
        with suppress(Exception):
            target.unlink()
        raise
