"""Which names survive the server's shell lines, multipart headers and job templates.

Seen on the real server (2.5.7): ``ops`` commands put paths between single quotes, so a quote breaks the line.
Multipart headers percent-encode ``"`` and control characters, and the server does not decode them. Transfer jobs
are rendered through a template that escapes HTML, upload into ``"<path>"`` (``$`` and backticks expand) and
download from a bare ``<path>`` (white space, ``;``, ``*``, ``(`` … are the shell's). Those jobs end COMPLETED all
the same, with another file's name. What cannot go under its own name travels in an archive with a plain one.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata

from firecrest_core.errors import InvalidFileName

_PLAIN = re.compile(r"[\w./+=@,:-]+")


def check(path: str) -> str:
    """Return ``path``, or refuse it before anything is sent.

    :raises InvalidFileName: for a quote, a control character, or nothing at all
    """
    if not path.strip():
        raise InvalidFileName("The path on the system is empty: give an absolute path.")
    if "'" in path:
        raise InvalidFileName(f"{path}: FirecREST cannot handle a quote (') in a path. Rename the file or directory.")
    if any(unicodedata.category(character) == "Cc" for character in path):
        raise InvalidFileName(f"{path!r}: FirecREST cannot handle control characters in a path. Rename it.")
    return path


def plain(path: str) -> bool:
    """Tell whether a transfer job handles ``path`` as it is."""
    return _PLAIN.fullmatch(path) is not None


def survives_multipart(name: str) -> bool:
    """Tell whether ``ops/upload`` writes a file under exactly this name."""
    return '"' not in name


def has_space(path: str) -> bool:
    """White space in a path breaks ``ops/checksum``: the server counts the words of the answer."""
    return any(character.isspace() for character in path)


def split(path: str) -> tuple[str, str]:
    """Return directory and final component, trailing slashes aside."""
    directory, name = posixpath.split(path.rstrip("/"))
    return directory or "/", name
