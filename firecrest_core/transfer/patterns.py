"""Paths on a system with wildcards, as a shell's: ``*.out``, ``run-?/energy.dat``, ``results/**/*.json``.

``*`` and ``?`` do not match a slash, ``**`` stands for any number of directories, ``[…]`` for one of some characters. A
name that begins with a dot is matched only by a pattern that does. A path that exists as it is written is no pattern,
whatever its name holds.

A pattern costs the server one listing, and a match one transfer, so both are bounded.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from firecrest_core.api.client import System
from firecrest_core.api.models import FileInfo
from firecrest_core.errors import AnswerTooLarge, RemotePathNotFound, RemotePathRefused, RequestTimedOut

MOST_MATCHES = 1000
"""How many files a pattern may match. More go faster as one archive: the download of their directory."""

_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file or directory to fetch.

    :param path: absolute path on the system
    :param name: the path that it gets below the directory that takes it: its own name, and for a match of a pattern the
        directories that wildcards stand for, too
    :param matched: a pattern has found it
    """

    path: str
    name: str
    matched: bool = False


def is_pattern(path: str) -> bool:
    """Tell whether a path holds a wildcard.

    :param path: a path on a system
    """
    return _WILDCARD.search(path) is not None


def plain_files(paths: Iterable[str]) -> list[RemoteFile]:
    """Return the files of paths without wildcards, which are known before anything is asked.

    :param paths: paths on a system, with or without wildcards
    """
    return [_as_written(path) for path in paths if not is_pattern(path)]


async def find_files(system: System, paths: Iterable[str]) -> list[RemoteFile]:
    """Return the files that paths and patterns name, each once. Without wildcards this costs no request.

    :param system: where they are
    :param paths: absolute paths, with or without wildcards
    :raises RemotePathNotFound: nothing matches a pattern
    :raises RemotePathRefused: a pattern matches too many files, or its directory is too large to be listed
    """
    found: dict[str, RemoteFile] = {}
    for path in paths:
        files = await match(system, path) if is_pattern(path) else [_as_written(path)]
        if not files:
            raise RemotePathNotFound(f"{path}: nothing on {system} matches this pattern. Check its directory and name.")
        found |= {file.path: file for file in files if file.path not in found}
    return list(found.values())


async def match(system: System, pattern: str) -> list[RemoteFile]:
    """Return what a pattern matches now, in the order of the names; nothing is no error.

    What lies below a directory that matches is left out, because a directory is fetched with all that it holds.

    :param system: where to look
    :param pattern: an absolute path with wildcards
    :raises RemotePathRefused: it matches too much, or its directory is too large to be listed
    """
    try:
        await system.stat(pattern)
    except RemotePathNotFound:
        pass
    else:
        return [_as_written(pattern)]
    base, _ = _split(pattern)
    rows = await matching_rows(system, pattern)
    names = {row.name: row.is_directory for row in rows}
    matched = sorted(names)
    directories = {name for name in matched if names[name]}
    kept = [name for name in matched if not directories.intersection(_above(name))]
    if len(kept) > MOST_MATCHES:
        raise RemotePathRefused(
            f"{pattern}: {len(kept):,} files on {system} match, and at most {MOST_MATCHES:,} are fetched one by one. "
            "Name their directory, which goes as one archive."
        )
    return [RemoteFile(posixpath.join(base, name), name, matched=True) for name in kept]


async def matching_rows(system: System, pattern: str) -> list[FileInfo]:
    """Return the rows of what a pattern matches, named from the directory above its first wildcard.

    :param system: where to look
    :param pattern: an absolute path, with or without wildcards
    :raises RemotePathRefused: the directory is too large to be listed
    """
    base, parts = _split(pattern)
    rows = await _listing(system, pattern, base, [parts])
    return [row for row in rows if not parts or (row.name != base and _matches(parts, row.name.split("/")))]


async def rows_by_path(system: System, patterns: Iterable[str]) -> dict[str, FileInfo]:
    """Return all that is where patterns look, whether it matches or not, with one listing for each directory.

    :param system: where to look
    :param patterns: absolute paths, with or without wildcards
    :raises RemotePathRefused: a directory is too large to be listed
    """
    of_base: defaultdict[str, list[list[str]]] = defaultdict(list)
    for pattern in patterns:
        base, parts = _split(pattern)
        of_base[base].append(parts)
    return {
        posixpath.join(base, row.name): row
        for base, several in of_base.items()
        for row in await _listing(system, posixpath.join(base, "*"), base, several)
    }


def matches(pattern: str, path: str) -> bool:
    """Tell whether a pattern matches a path.

    :param pattern: an absolute path, with or without wildcards
    :param path: an absolute path
    """
    base, parts = _split(pattern)
    if not parts:
        return posixpath.normpath(path) == posixpath.normpath(pattern)
    above = base.rstrip("/") + "/"
    return path.startswith(above) and _matches(parts, path.removeprefix(above).split("/"))


async def _listing(system: System, pattern: str, base: str, below: Sequence[Sequence[str]]) -> list[FileInfo]:
    """List a directory, as deep as the parts of patterns below it need."""
    try:
        return await system.list_files(
            base,
            recursive=any(len(parts) > 1 for parts in below),
            hidden=any(part.startswith(".") for parts in below for part in parts),
        )
    except RemotePathNotFound:
        return []
    except RequestTimedOut as error:  # perhaps only now
        raise RequestTimedOut(f"{pattern}: {error} If this stays so, begin the pattern further down.") from None
    except AnswerTooLarge:
        raise RemotePathRefused(
            f"{pattern}: what is below {base} on {system} is too much to be listed. Begin the pattern further down."
        ) from None


def _as_written(path: str) -> RemoteFile:
    return RemoteFile(path, posixpath.basename(path.rstrip("/")))


@lru_cache(maxsize=4096)
def _split(pattern: str) -> tuple[str, list[str]]:
    """Return the directory above the first wildcard, and the parts of the pattern below it; no parts without one."""
    if not is_pattern(pattern):
        return pattern, []
    parts = [part for part in pattern.split("/") if part]
    first = next(index for index, part in enumerate(parts) if is_pattern(part))
    below: list[str] = []
    for part in parts[first:]:
        if part != "**" or below[-1:] != ["**"]:
            below.append(part)
    if below[-1] == "**":
        below.append("*")
    return "/" + "/".join(parts[:first]), below


def _matches(parts: Sequence[str], names: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        return _matches(parts[1:], names) or bool(names and names[0][0] != "." and _matches(parts, names[1:]))
    if not names or (names[0].startswith(".") and not parts[0].startswith(".")):
        return False
    return fnmatchcase(names[0], parts[0]) and _matches(parts[1:], names[1:])


def _above(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]
