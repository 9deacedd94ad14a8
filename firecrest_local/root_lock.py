"""One server for a root at a time: two would start each other's jobs."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class RootLock:
    """Held by the server that serves a root; the kernel lets go of it when that server dies.

    Parameters:
        root: the cluster's directory; made when missing.

    Raises:
        OSError: another server holds it.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._file = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise OSError(f"another firecrest-local already serves {root}") from None

    def release(self) -> None:
        """Let go."""
        os.close(self._file)
