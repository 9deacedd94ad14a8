"""How long to leave alone what has failed, and what of it is worth a line in the log.

Something may fail for days: a secret is wrong, a server is away. Each attempt may be a refused login, and many of them
lock an account. So the pauses grow, and the log names the first failure and the success after it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable
from dataclasses import dataclass


@dataclass
class _Failure:
    pause: float
    until: float


class Pauses:
    """The pauses after the failures of several things, each of which is twice as long as the one before it.

    :param first: seconds of a first pause
    :param longest: seconds of the longest pause
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._failures: dict[Hashable, _Failure] = {}

    def is_due(self, thing: Hashable) -> bool:
        """Tell whether no pause of this thing lasts."""
        failure = self._failures.get(thing)
        return failure is None or time.monotonic() >= failure.until

    def failed(self, thing: Hashable) -> bool:
        """Begin a pause.

        :returns: whether it had not failed before, so that this should be said
        """
        now = time.monotonic()
        failure = self._failures.get(thing)
        if failure is None:
            self._failures[thing] = _Failure(self._first, now + self._first)
            return True
        failure.pause = min(2 * failure.pause, self._longest)
        failure.until = now + failure.pause
        return False

    def succeeded(self, thing: Hashable) -> bool:
        """Forget the failures of a thing.

        :returns: whether it had failed before, so that this should be said
        """
        return self._failures.pop(thing, None) is not None

    def keep(self, things: Collection[Hashable]) -> None:
        """Forget the failures of all but these things."""
        self._failures = {thing: failure for thing, failure in self._failures.items() if thing in things}
