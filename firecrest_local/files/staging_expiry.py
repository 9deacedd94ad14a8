"""Removes from the staging store what nobody needs any more, as the lifecycle of a bucket does."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from pathlib import Path

log = logging.getLogger(__name__)

#: Seconds after its whole content was served for which an object stays, for a client that has lost the answer.
GRACE = 15 * 60
#: Seconds between two looks.
INTERVAL = 30.0
#: The file beside an object that says when its whole content was served.
_SERVED = "served"


class ServedRanges:
    """The bytes of one object that have been served.

    :param size: the object's size.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._ranges: list[tuple[int, int]] = []

    def add(self, first: int, last: int) -> bool:
        """Add a range, its last byte included.

        :returns: whether every byte of the object was served.
        """
        merged: list[tuple[int, int]] = []
        for start, end in sorted([*self._ranges, (first, last)]):
            if merged and start <= merged[-1][1] + 1:
                merged[-1] = merged[-1][0], max(merged[-1][1], end)
            else:
                merged.append((start, end))
        self._ranges = merged
        return merged[0][0] == 0 and merged[0][1] >= self._size - 1


class StagingExpiry:
    """Removes objects some time after they were served, and everything after some days.

    :param objects: holds a directory for each bucket, and in it one for each object.
    :param uploads: holds a directory for each unfinished upload.
    :param lifetime: seconds after its last change after which anything is removed.
    """

    def __init__(self, objects: Path, uploads: Path, lifetime: float) -> None:
        self._objects = objects
        self._uploads = uploads
        self._lifetime = lifetime
        self._ranges: dict[Path, ServedRanges] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="firecrest-local-staging", daemon=True)

    def start(self) -> None:
        """Remove from now on what nobody needs."""
        self._thread.start()

    def stop(self) -> None:
        """Remove nothing more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def on_served(self, path: Path, first: int, last: int, size: int) -> None:
        """Record that bytes of an object were served. When all of them were, its grace begins.

        :param path: the object.
        :param first: the first byte.
        :param last: the last byte.
        :param size: the object's size.
        """
        with self._lock:
            whole = self._ranges.setdefault(path, ServedRanges(size)).add(first, last)
        if whole and path.exists():
            path.with_name(_SERVED).touch(mode=0o600)

    def sweep(self, now: float) -> None:
        """Remove what nobody needs at this Unix time."""
        for directory in (*self._objects.glob("*/*"), *self._uploads.glob("*")):
            try:
                served = directory / _SERVED
                seen = served.stat().st_mtime if served.exists() else None
                old = now > directory.stat().st_mtime + self._lifetime
            except FileNotFoundError:
                # A transfer job removes what it has taken.
                continue
            if old or (seen is not None and now > seen + GRACE):
                shutil.rmtree(directory, ignore_errors=True)
        with self._lock:
            self._ranges = {path: ranges for path, ranges in self._ranges.items() if path.exists()}

    def _run(self) -> None:
        while True:
            try:
                self.sweep(time.time())
            except OSError:
                log.exception("error while the staging store was swept; it continues")
            if self._stopped.wait(INTERVAL):
                return
