"""Directories and files that only their owner may use, whatever the umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


def make_private_directory(path: Path) -> None:
    """Make a directory if it is missing, and close it to other users.

    :param path: the directory. Missing parents are made, too, as private as it.
    :raises OSError: a link or somebody else's directory is there, whose owner could choose what is in it.
    """
    for missing in reversed([parent for parent in path.parents if not parent.exists()]):
        make_private_directory(missing)
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise OSError(f"{path} is no directory of this user's own. Remove it, or choose another root")
    path.chmod(0o700)


def open_private(path: Path) -> BinaryIO:
    """Open a new file for writing."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb")


def write_private(path: Path, text: str) -> None:
    """Write a file. It is private before it has content, and appears whole."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text, errors="surrogateescape")
    draft.replace(path)
