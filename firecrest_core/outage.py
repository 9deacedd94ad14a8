"""Bearing an outage where something has to be done, and not only waited for.

What stops a first contact is an outage later: a resolver or an identity provider that is down.
"""

from __future__ import annotations

import logging
import math
import random
from asyncio import sleep
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from firecrest_core import errors
from firecrest_core.waiting import OUTAGES

log = logging.getLogger(__name__)

T = TypeVar("T")

# How long an outage is borne before the first contact, in seconds: an unhealthy system is found well again by the
# server's probe after 60 to 120 s. Once a job may exist, only the caller's own limit ends the patience.
PATIENCE = 300.0


async def persist(request: Callable[[], Awaitable[T]], limit: float = PATIENCE) -> T:
    """Ask until there is an answer. What is asked for may have been done already by a request without one.

    :param limit: seconds; ``inf`` where a job is known to exist, so that whatever stops the contact is an outage
    """
    outage = Outage("FirecREST", limit)
    while True:
        try:
            return await request()
        except OUTAGES as error:
            if limit < math.inf and not isinstance(error, errors.TransientError):
                raise
            await outage.endure(error)


class Outage:
    """Pauses between requests that fail, and words about them, both at growing intervals.

    :param limit: seconds of pauses after which the error is raised
    """

    def __init__(self, what: str, limit: float) -> None:
        self.limit = limit
        self._what = what
        self._pauses = delays(math.inf)
        self.spent = 0.0
        self._tell_at = 0.0

    async def endure(self, error: errors.FirecRESTError) -> None:
        if self.spent >= self.limit:
            raise error
        if self.spent >= self._tell_at:
            log.warning("%s: still trying. %s", self._what, error)
            self._tell_at = max(60.0, 2 * self.spent)
        delay = max(next(self._pauses), getattr(error, "retry_after", None) or 0.0) * random.uniform(1.0, 1.25)
        self.spent += delay
        await sleep(delay)


def delays(total: float) -> Iterator[float]:
    """Growing pauses in seconds that add up to ``total``."""
    delay, spent = 2.0, 0.0
    while spent < total:
        yield delay
        spent += delay
        delay = min(2 * delay, 30.0)
