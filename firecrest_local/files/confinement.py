"""Confines the paths of clients to the directory that clients may see."""

# Clients' paths are text here: the normal form that os.path gives is the one the real server shows.
# ruff: noqa: PTH117, PTH118

from __future__ import annotations

import os
from pathlib import Path

from firecrest_local.errors import ApiError
from firecrest_local.usable_text import is_usable


class Confinement:
    """Decides which paths exist for clients.

    :param root: the directory that holds all that clients may see. Links in its own path are resolved.
    :param system: the system's name, for messages.
    """

    def __init__(self, root: Path, system: str) -> None:
        self.root = os.path.realpath(root)
        self._system = system

    def path(self, path: str) -> str:
        """Return the normal form of a client's path.

        :raises ApiError: 400 if the path is not absolute, is outside, or can't be a path at all.
        """
        if not is_usable(path):
            raise ApiError(400, f"The provided path ({path!r}) holds a character that no path can hold.")
        if not os.path.isabs(path):
            raise ApiError(400, f"The provided path ({path}) is not an absolute path.")
        normal = os.path.normpath(path)
        if not self._within(normal):
            raise ApiError(
                400,
                f"The provided path ({normal}) does not match any of the defined filesystem paths"
                f" for the requested system ({self._system}).",
            )
        return normal

    def holds(self, path: str, *, follow: bool = True) -> bool:
        """Return whether `path` is inside once its links are resolved.

        :param path: an absolute path.
        :param follow: resolve the last component too, for an operation that follows links.
        """
        if follow:
            return self._within(os.path.realpath(path))
        parent, name = os.path.split(os.path.normpath(path))
        return self._within(os.path.join(os.path.realpath(parent), name))

    def _within(self, path: str) -> bool:
        return path == self.root or path.startswith(self.root.rstrip("/") + "/")
