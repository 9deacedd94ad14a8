"""One law of retrying: pauses that grow, reports that grow rarer, and a limit only where the caller sets one.

Two kinds of retries use it. A request is repeated *briefly*, a few times within seconds (:func:`retry_briefly`). An
outage is waited out (:class:`Backoff`, :func:`retry_transient`): the watcher does so between two questions, a wait when
it reports, and whatever must not be given up.
"""

from __future__ import annotations

import logging
import math
import random
from asyncio import sleep
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from firecrest_core import errors

log = logging.getLogger(__name__)

T = TypeVar("T")

# What stops a first contact is an outage once the server has been reached as this user: a resolver or an identity
# provider that is down.
OUTAGES = (errors.TransientError, errors.AuthenticationFailed, errors.HostNotFound, errors.TLSFailed)

# Seconds for which an outage is waited out before the first contact: the server's probe takes 60 to 120 s to see that a
# system is healthy again. Once a job may exist, only the caller's own limit ends the retries.
FIRST_CONTACT_LIMIT = 300.0

# Seconds: our longest pause, and the longest pause that a server may ask for.
LONGEST_PAUSE = 30.0
LONGEST_RETRY_AFTER = 600.0

# How often a request is sent at the most when it is retried briefly.
ATTEMPTS = 4
# Seconds. A server that asks for a longer pause gets no brief retry: the caller may have better things to do.
_LONGEST_BRIEF_PAUSE = 30.0

_REPORT_AGAIN_AFTER = 60.0


class Backoff:
    """Requests that fail, one after the other: how long to pause after each, and whether to report it.

    :param began: when the first of them failed, in seconds of a clock that only runs forward
    :ivar reported: whether a failure was worth a report so far
    :ivar waited: seconds that :meth:`wait` has paused in all
    """

    def __init__(self, began: float = 0.0) -> None:
        self.began = began
        self.reported = False
        self.waited = 0.0
        self._report_at = began
        self._delays = delays()

    def pause(self, error: errors.FirecRESTError) -> float:
        """Return the seconds until the next request: more each time, and never less than the server asked for."""
        asked = min(error.retry_after or 0.0, LONGEST_RETRY_AFTER)
        return max(next(self._delays), _jittered(asked))

    def should_report(self, now: float) -> bool:
        """Tell whether to report now that the outage lasts: once at first, again after a minute, then ever more rarely.

        Each report comes after twice the time of the one before.
        """
        if now < self._report_at:
            return False
        self.reported = True
        self._report_at = self.began + max(_REPORT_AGAIN_AFTER, 2 * (now - self.began))
        return True

    async def wait(self, error: errors.FirecRESTError, what: str, limit: float = math.inf) -> None:
        """Pause after a request that failed.

        :param what: what is being tried, for the log
        :param limit: seconds of pauses after which the error is raised
        :raises FirecRESTError: ``error`` itself, once the limit is reached
        """
        if self.waited >= limit:
            raise error
        if self.should_report(self.waited):
            log.warning("%s: still trying. %s", what, error)
        pause = self.pause(error)
        self.waited += pause
        await sleep(pause)


async def retry_transient(request: Callable[[], Awaitable[T]], limit: float = FIRST_CONTACT_LIMIT) -> T:
    """Repeat a request until it is answered. An earlier one, whose answer was lost, may have done its work already.

    :param limit: seconds of pauses; ``inf`` where a job is known to exist, so that whatever stops the contact is an
        outage
    """
    backoff = Backoff()
    while True:
        try:
            return await request()
        except OUTAGES as error:
            if limit < math.inf and not isinstance(error, errors.TransientError):
                raise
            await backoff.wait(error, "FirecREST", limit)


async def retry_briefly(
    request: Callable[[], Awaitable[T]],
    *,
    attempts: int = ATTEMPTS,
    longest_pause: float = 4.0,
    only_if: Callable[[BaseException], bool] = lambda error: True,
) -> T:
    """Repeat a request that failed for a moment, a few times, with growing and jittered pauses.

    :param attempts: how often it is sent at the most
    :param longest_pause: seconds between two attempts at the most, unless the server asks for a longer pause
    :param only_if: tells of an error whether the request may be sent again after it
    :raises FirecRESTError: the last error
    """

    def again(error: BaseException) -> bool:
        return may_pass(error) and only_if(error) and _asked_pause(error) <= _LONGEST_BRIEF_PAUSE

    growing = wait_random_exponential(0.5, max=longest_pause)

    def pause(state: RetryCallState) -> float:
        return max(_asked_pause(state.outcome.exception() if state.outcome else None), growing(state))

    stop = stop_after_attempt(attempts)
    async for attempt in AsyncRetrying(retry=retry_if_exception(again), stop=stop, wait=pause, reraise=True):
        with attempt:
            return await request()
    raise AssertionError("tenacity raises the last error again")


def may_pass(error: BaseException) -> bool:
    """Tell whether a brief retry may help. A name may fail to resolve for a moment."""
    return isinstance(error, (errors.TransientError, errors.HostNotFound))


def delays(total: float = math.inf) -> Iterator[float]:
    """Yield growing pauses in seconds that add up to ``total`` or a little more: the jitter keeps callers apart."""
    delay, spent = min(1.0, LONGEST_PAUSE), 0.0
    while spent < total:
        yield _jittered(delay)
        spent += delay
        delay = min(2 * delay, LONGEST_PAUSE)


def _asked_pause(error: BaseException | None) -> float:
    return (error.retry_after or 0.0) if isinstance(error, errors.FirecRESTError) else 0.0


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1.0, 1.25)
