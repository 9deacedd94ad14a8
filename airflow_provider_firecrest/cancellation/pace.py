"""How often to read the database: often enough, and never for more than a small share of the time."""

from __future__ import annotations

import time
from collections import deque

# So many times the duration of a scan lie between two of them. The two kinds of scans that a triggerer makes then take
# one hundredth of the time together.
_TIMES = 200.0

# Scans of which the shortest counts. One that had to wait for another process's lock, or was the first and imported
# what it needs, says nothing of the next one.
_COMPARED = 3


class Pace:
    """When something is to be done again that takes a while.

    :param interval: seconds between two times at least
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._durations: deque[float] = deque(maxlen=_COMPARED)
        self._due = 0.0

    @property
    def remaining(self) -> float:
        """Seconds until it is due."""
        return max(0.0, self._due - time.monotonic())

    def took(self, seconds: float) -> None:
        """Note that it was done just now.

        :param seconds: how long it took
        """
        self._durations.append(seconds)
        self.restart()

    def restart(self) -> None:
        """Let it be due after a whole pause from now."""
        known = len(self._durations) == _COMPARED
        self._due = time.monotonic() + max(self._interval, _TIMES * min(self._durations) if known else 0.0)
