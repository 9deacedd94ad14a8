"""A waiting job's place in the queue: its reason and its expected start, and when a line is due that tells of them.

Slurm plans anew every half a minute. Each time a reason may come back that was there before, and the expected start may
move by a little. A log of hours should not repeat that.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from firecrest_core.jobs.status import JobStatus

# Seconds between two lines at least, unless the reason is a new one.
_SHORTEST = 60.0
# Seconds without a line after which one says that the job still waits; then twice as long each time, up to an hour.
_SILENCE = 600.0
_LONGEST_SILENCE = 3600.0
# A move of the expected start that is worth a line: this part of the time until then, and so many seconds at least.
_MOVED_PART = 0.1
_MOVED_SECONDS = 60.0


def expected_start(status: JobStatus) -> str:
    """Return in words when a waiting job is expected to start, as ``expected start 14:20 UTC``.

    :param status: where it is
    :returns: an empty text if nobody knows; the scheduler's plan may also be out of date
    """
    expected, now = status.expected_start, time.time()
    if expected is None or expected < now - _SHORTEST:
        return ""
    try:
        start, today = datetime.fromtimestamp(expected, UTC), datetime.fromtimestamp(now, UTC).date()
    except (OverflowError, OSError, ValueError):  # a number of the scheduler that is no time
        return ""
    return f"expected start {start:%H:%M}" + (" UTC" if start.date() == today else f" UTC on {start:%Y-%m-%d}")


class QueuePlace:
    """What the log says of a job while it waits in one state. All times but the expected start are monotonic.

    :param status: where the job is, which a line tells now
    :param now: the current time
    """

    def __init__(self, status: JobStatus, now: float) -> None:
        self._reasons: set[str | None] = set()
        self._silence = _SILENCE
        self._told(status, now)

    def is_due(self, status: JobStatus, now: float) -> bool:
        """Tell whether a line is due that tells where the job is, and note that it was written.

        :param status: where it is
        :param now: the current time
        """
        silent = now - self._told_at
        if status.reason not in self._reasons or (silent >= _SHORTEST and self._has_moved(status)):
            self._silence = _SILENCE
        elif silent >= self._silence:
            self._silence = min(2 * self._silence, _LONGEST_SILENCE)
        else:
            return False
        self._told(status, now)
        return True

    def _told(self, status: JobStatus, now: float) -> None:
        self._reasons.add(status.reason)
        self._reason, self._start, self._told_at = status.reason, status.expected_start, now

    def _has_moved(self, status: JobStatus) -> bool:
        if status.reason != self._reason:
            return True
        if status.expected_start is None or self._start is None:
            return status.expected_start is not None
        moved = abs(status.expected_start - self._start)
        return moved >= max(_MOVED_SECONDS, _MOVED_PART * (self._start - time.time()))
