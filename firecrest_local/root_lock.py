"""Lets one server at a time use a root: two would start each other's jobs."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from firecrest_local.private_files import make_private_directory


class RootLock:
    """The lock of the server that uses a root. The kernel releases it when that server dies.

    :param root: the cluster's directory; made when missing.
    :raises OSError: another server holds the lock, or the lock is a link.
    """

    def __init__(self, root: Path) -> None:
        if not root.exists():
            make_private_directory(root)
        self._file = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise OSError(f"another firecrest-local already serves {root}") from None

    def release(self) -> None:
        """Release the lock."""
        os.close(self._file)
