"""Which names the server's shell commands, multipart headers and job templates can handle.

Observed on the real server (2.5.7):

- Multipart headers percent-encode ``"`` and control characters and double a backslash, and the server does not decode
  them.
- Transfer jobs are rendered through a template that escapes HTML. They upload into ``"<path>"`` (``$`` and backticks
  expand) and download from a bare ``<path>`` (the shell interprets white space, ``;``, ``*``, ``(`` …). Such a job ends
  COMPLETED all the same, with another file's name.

A file whose name cannot be used is transferred in an archive with a plain name.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from firecrest_core.errors import InvalidFileName

_PLAIN = re.compile(r"[\w./+=@,:-]+")


def check_own(path: str) -> None:
    """Refuse a path whose final component is no name, as a download would have none on the local side.

    :param path: the path, without trailing slashes
    :raises InvalidFileName: it ends in ``.`` or ``..``
    """
    if posixpath.basename(path) in (".", ".."):
        raise InvalidFileName(f"{path} ends in dots, so the download would have no name. Write the path without them.")


def check_distinct(named: Iterable[tuple[str, str]], directory: object) -> None:
    """Refuse to copy two files under one name into one directory, where the second would replace the first.

    :param named: the path and the name of each file
    :param directory: where they go, for the message
    :raises InvalidFileName: two paths have one name
    """
    owners: dict[str, str] = {}
    for path, name in named:
        other = owners.setdefault(name, path)
        if other != path:
            raise InvalidFileName(
                f"{other} and {path} would both become {name} in {directory}. Copy them into directories of their own."
            )


def plain(path: str) -> bool:
    """Tell whether a transfer job handles ``path`` as it is."""
    return _PLAIN.fullmatch(path) is not None


def survives_multipart(name: str) -> bool:
    """Tell whether ``ops/upload`` writes a file under exactly this name."""
    return '"' not in name and "\\" not in name


def has_space(path: str) -> bool:
    """Tell if a path contains white space. It breaks ``ops/checksum``: the server counts the words of the output."""
    return any(character.isspace() for character in path)


def split(path: str) -> tuple[str, str]:
    """Return the directory and the final component of a path, without trailing slashes."""
    directory, name = posixpath.split(path.rstrip("/"))
    return directory or "/", name
