"""Bearing an outage: pauses that grow, words that come ever more seldom, and an end only where the caller sets one.

One law for all who ask again: the watcher between two questions, a wait that tells of them, and whoever has something
to do that cannot be given up.
"""

from __future__ import annotations

import logging
import math
import random
from asyncio import sleep
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from firecrest_core import errors

log = logging.getLogger(__name__)

T = TypeVar("T")

# What stops a first contact is an outage once the server has been reached as this user: a resolver or an identity
# provider that is down.
OUTAGES = (errors.TransientError, errors.AuthenticationFailed, errors.HostNotFound, errors.TLSFailed)

# How long an outage is borne before the first contact, in seconds: an unhealthy system is found well again by the
# server's probe after 60 to 120 s. Once a job may exist, only the caller's own limit ends the patience.
PATIENCE = 300.0

# Seconds: the longest pause of ours, and the longest that a server may ask for.
LONGEST_PAUSE = 30.0
LONGEST_RETRY_AFTER = 600.0

_TELL_AGAIN_AFTER = 60.0


class Outage:
    """Requests that fail, one after the other: how long to pause after each, and whether to speak of it.

    :param began: seconds of a clock that only runs forward
    """

    def __init__(self, began: float = 0.0) -> None:
        self.began = began
        self.told = False
        self._tell_at = began
        self._delays = delays()

    def pause(self, error: errors.FirecRESTError) -> float:
        """Seconds until the next request: more each time, and never less than the server asked for."""
        asked = min(error.retry_after or 0.0, LONGEST_RETRY_AFTER)
        return max(next(self._delays), _jittered(asked))

    def worth_telling(self, now: float) -> bool:
        """Whether to say now that it goes on: true once, then after a minute, then each time twice as late."""
        if now < self._tell_at:
            return False
        self.told = True
        self._tell_at = self.began + max(_TELL_AGAIN_AFTER, 2 * (now - self.began))
        return True


class Patience:
    """Bears an outage by pausing, up to a limit.

    :param what: what is being tried, for the log
    :param limit: seconds of pauses after which the error is raised
    """

    def __init__(self, what: str, limit: float) -> None:
        self.limit = limit
        self.spent = 0.0
        self._what = what
        self._outage = Outage()

    async def endure(self, error: errors.FirecRESTError) -> None:
        """Pause after a request that failed.

        :raises FirecRESTError: that error, when the patience is at its end
        """
        if self.spent >= self.limit:
            raise error
        if self._outage.worth_telling(self.spent):
            log.warning("%s: still trying. %s", self._what, error)
        pause = self._outage.pause(error)
        self.spent += pause
        await sleep(pause)


async def persist(request: Callable[[], Awaitable[T]], limit: float = PATIENCE) -> T:
    """Ask until there is an answer. What is asked for may have been done already by a request without one.

    :param limit: seconds; ``inf`` where a job is known to exist, so that whatever stops the contact is an outage
    """
    patience = Patience("FirecREST", limit)
    while True:
        try:
            return await request()
        except OUTAGES as error:
            if limit < math.inf and not isinstance(error, errors.TransientError):
                raise
            await patience.endure(error)


def delays(total: float = math.inf) -> Iterator[float]:
    """Growing pauses in seconds that add up to ``total`` or a little more: many who fail at once come back apart."""
    delay, spent = min(1.0, LONGEST_PAUSE), 0.0
    while spent < total:
        yield _jittered(delay)
        spent += delay
        delay = min(2 * delay, LONGEST_PAUSE)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1.0, 1.25)
