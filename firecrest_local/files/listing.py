"""Rows of a directory listing, with the columns of `ls -l`."""

# Clients' paths and links' targets are text here.
# ruff: noqa: PTH110, PTH115, PTH116, PTH118, PTH208

from __future__ import annotations

import grp
import os
import pwd
import stat
import time
from collections.abc import Iterator
from typing import Any

from firecrest_local.files.confinement import Confinement
from firecrest_local.files.shown_name import shown_name

_TYPES = (
    (stat.S_ISDIR, "d"),
    (stat.S_ISLNK, "l"),
    (stat.S_ISFIFO, "p"),
    (stat.S_ISSOCK, "s"),
    (stat.S_ISBLK, "b"),
    (stat.S_ISCHR, "c"),
)


def user_name(uid: int) -> str:
    """Return the name of a user id, or the id if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of a group id, or the id if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def file_row(path: str, name: str, *, numeric: bool = False, follow: bool = False) -> dict[str, Any] | None:
    """Return the row of one file; None if a name has a space, because the real server can't read that line of `ls`.

    :param path: where the file is.
    :param name: the name to show.
    :param numeric: show ids instead of names for user and group.
    :param follow: show a link's target instead of the link.
    :raises OSError: the file can't be read.
    """
    info = os.stat(path) if follow else os.lstat(path)
    link = stat.S_ISLNK(info.st_mode)
    user = str(info.st_uid) if numeric else user_name(info.st_uid)
    group = str(info.st_gid) if numeric else group_name(info.st_gid)
    if len(user.split()) != 1 or len(group.split()) != 1:
        return None
    return {
        "name": shown_name(name),
        "type": next((letter for test, letter in _TYPES if test(info.st_mode)), "-"),
        "linkTarget": shown_name(os.readlink(path)) if link else None,
        "user": user,
        "group": group,
        "permissions": stat.filemode(info.st_mode)[1:],
        "lastModified": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(info.st_mtime)),
        "size": str(info.st_size),
    }


def directory_rows(
    path: str,
    confinement: Confinement,
    *,
    hidden: bool = False,
    numeric: bool = False,
    recursive: bool = False,
    follow: bool = False,
    prefix: str = "",
) -> Iterator[dict[str, Any]]:
    """Return the rows of a directory's entries, its own before those of its subdirectories.

    A link that leads out of the confinement is shown and never followed.
    """
    subdirectories = []
    for name in sorted(os.listdir(path)):
        if name.startswith(".") and not hidden:
            continue
        entry = os.path.join(path, name)
        followed = follow and os.path.exists(entry) and confinement.holds(entry)
        try:
            row = file_row(entry, prefix + name, numeric=numeric, follow=followed)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR((os.stat(entry) if followed else os.lstat(entry)).st_mode):
            subdirectories.append(name)
        if row is not None:
            yield row
    if recursive:
        for name in subdirectories:
            yield from directory_rows(
                os.path.join(path, name),
                confinement,
                hidden=hidden,
                numeric=numeric,
                recursive=True,
                follow=follow,
                prefix=f"{prefix}{name}/",
            )
