"""Names of files as text that fits into JSON: a name on disk can be any bytes."""

from __future__ import annotations

import os


def shown_name(name: str) -> str:
    """Replace what is not UTF-8 in a name, as the real server does when it reads a command's output."""
    return os.fsencode(name).decode(errors="replace")
