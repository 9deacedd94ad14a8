"""Who the server's one user is."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """The user as the cluster knows them.

    :param user: the user's name.
    :param uid: the user's id.
    :param group: the name of the user's group.
    :param gid: the id of the user's group.
    :param groups: id and name of every group that the user is in.
    """

    user: str
    uid: int
    group: str
    gid: int
    groups: tuple[tuple[int, str], ...]


def current_identity(user: str | None = None) -> Identity:
    """Return the user who runs this process.

    :param user: a name to use instead of the system's. Without one, a user whom the system can't name is
        `fireuser`.
    """

    def group_name(gid: int) -> str:
        try:
            return grp.getgrgid(gid).gr_name
        except KeyError:
            return str(gid)

    uid, gid = os.getuid(), os.getgid()
    if user is None:
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = "fireuser"
    groups = tuple((number, group_name(number)) for number in sorted({gid, *os.getgroups()}))
    return Identity(user, uid, group_name(gid), gid, groups)
