"""Paths on a system that its server's shell commands can take.

The real server (2.5.7) puts paths between single quotes, so a quote breaks the command, and it reads what a command
prints line by line, so a path with a line break is misread. Its words then name no reason, as in an outage.
"""

from __future__ import annotations

import unicodedata

from firecrest_core.errors import InvalidFileName


def check_remote_path(path: str) -> str:
    """Return a path on the system unchanged, or refuse it before anything is sent.

    :param path: the path
    :raises InvalidFileName: it is empty, or contains a quote or a control character
    """
    if not path.strip():
        raise InvalidFileName("The path on the system is empty: give an absolute path.")
    if "'" in path:
        raise InvalidFileName(f"{path}: FirecREST cannot handle a quote (') in a path. Rename the file or directory.")
    if any(unicodedata.category(character) == "Cc" for character in path):
        raise InvalidFileName(f"{path!r}: FirecREST cannot handle control characters in a path. Rename it.")
    return path
