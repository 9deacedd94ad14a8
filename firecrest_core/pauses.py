"""How long to leave alone what has failed, and what is worth a line in the log.

Something may fail for days: a secret is wrong, a connection was deleted, FirecREST is away. Each attempt is a refused
login then, and many of them lock an account. So the pauses grow, and the log names the first failure and the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass
class _Failure:
    pause: float
    until: float


class Pauses:
    """The pauses after the failures of several things, each of which doubles the pause before it.

    :param first: seconds of a first pause
    :param longest: seconds of the longest pause
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._failures: dict[Hashable, _Failure] = {}

    def is_due(self, thing: Hashable) -> bool:
        """Tell whether no pause of this thing lasts.

        :param thing: what may have failed
        """
        return self.remaining(thing) <= 0.0

    def remaining(self, thing: Hashable) -> float:
        """Return the seconds until a thing is due.

        :param thing: what may have failed
        """
        failure = self._failures.get(thing)
        return 0.0 if failure is None else max(0.0, failure.until - time.monotonic())

    def failed(self, thing: Hashable) -> bool:
        """Begin a pause.

        :param thing: what has failed
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

        :param thing: what has succeeded
        :returns: whether it had failed before, so that this should be said
        """
        return self._failures.pop(thing, None) is not None

    def keep(self, is_there: Callable[[Hashable], bool]) -> None:
        """Forget what is gone.

        :param is_there: tells of a thing whether it is still there
        """
        self._failures = {thing: failure for thing, failure in self._failures.items() if is_there(thing)}
