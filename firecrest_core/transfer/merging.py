"""Gives an unpacked file or directory its final name, or merges it into a directory that exists.

At the destination no link is ever followed below the directory that the user named, whoever made the link: each
directory is opened relative to the one above it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from firecrest_core.errors import LocalFileRefused

# The components of a relative path.
Parts: TypeAlias = tuple[str, ...]


def merge(source: int, name: str, directories: Sequence[Parts], final: Path) -> None:
    """Move a file or a directory to ``final``. What is there stays, except files and links of the same name.

    :param source: descriptor of a directory that nobody else writes to
    :param name: the name in it of what is moved
    :param directories: all directories of the tree, relative to it, each after the one above it; none for a file
    :param final: the path that it will have
    :raises LocalFileRefused: a directory would replace a file or link, or be replaced by one; nothing is moved then
    """
    with _opened(final.parent) as parent:
        there = _mode(final.name, parent)
        if there is None:
            os.rename(name, final.name, src_dir_fd=source, dst_dir_fd=parent)
            return
        _check(final, there, tree=bool(directories))
        if not directories:
            os.replace(name, final.name, src_dir_fd=source, dst_dir_fd=parent)
            return
        for each in directories:
            with (
                _opened(Path(name, *each), source) as tree,
                suppress(FileNotFoundError),  # what is not there is not in the way
                _opened_below(parent, (final.name, *each)) as target,
            ):
                _check_entries(tree, target, final.joinpath(*each))
        for each in directories:
            with (
                _opened(Path(name, *each), source) as tree,
                _opened_below(parent, (final.name, *each), create=True) as target,
            ):
                _move_entries(tree, target)


def check_kind(final: Path, *, tree: bool) -> None:
    """Refuse to replace a directory by a file, or a file or link by a directory.

    :param final: the path that something will have
    :param tree: whether it is a directory
    :raises LocalFileRefused: something of another kind is there
    """
    with suppress(FileNotFoundError):
        _check(final, final.lstat().st_mode, tree=tree)


def _check(path: Path, mode: int, *, tree: bool) -> None:
    if stat.S_ISDIR(mode) == tree:
        return
    there = "a directory" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "a file"
    new = "a directory" if tree else "a file or link"
    raise LocalFileRefused(
        f"{path} is {there}, and the download has {new} of this name. Remove it first, or choose another target."
    )


def _check_entries(tree: int, target: int, place: Path) -> None:
    with os.scandir(tree) as entries:
        for entry in entries:
            there = _mode(entry.name, target)
            if there is not None:
                _check(place / entry.name, there, tree=entry.is_dir(follow_symlinks=False))


def _move_entries(tree: int, target: int) -> None:
    with os.scandir(tree) as entries:
        files = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
    for name in files:
        os.replace(name, name, src_dir_fd=tree, dst_dir_fd=target)


def _mode(name: str, directory: int) -> int | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


@contextmanager
def _opened(path: Path, above: int | None = None) -> Iterator[int]:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=above)
    try:
        yield directory
    finally:
        os.close(directory)


@contextmanager
def _opened_below(above: int, parts: Parts, *, create: bool = False) -> Iterator[int]:
    """Open a directory without following a link.

    :param above: descriptor of the directory in which the first part is
    :param parts: the components of its path
    :param create: create the directories that are missing
    """
    directory = os.dup(above)
    try:
        for part in parts:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=directory)
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = below
        yield directory
    finally:
        os.close(directory)
