"""Who the server's one user is."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """The user as the cluster knows him or her.

    Parameters:
        user, uid: the user's name and id.
        group, gid: the same of the user's group.
        groups: all groups, id and name.
    """

    user: str
    uid: int
    group: str
    gid: int
    groups: tuple[tuple[int, str], ...]


def current_identity(user: str | None = None) -> Identity:
    """The user who runs this process.

    Parameters:
        user: a name to go by instead; also the fallback `fireuser` is used when the system knows none.
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
