"""Directories and files that only their owner may use, whatever the umask."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO


def make_private_directory(path: Path) -> None:
    """Make a directory if it is missing, and close it to other users.

    :param path: the directory. Missing parents are made, too, as private as it.
    """
    for missing in reversed([parent for parent in path.parents if not parent.exists()]):
        make_private_directory(missing)
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)


def open_private(path: Path) -> BinaryIO:
    """Open a new file for writing."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def write_private(path: Path, text: str) -> None:
    """Write a file. It is private before it has content, and appears whole."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text, errors="surrogateescape")
    draft.replace(path)
