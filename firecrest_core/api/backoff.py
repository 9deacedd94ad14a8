"""All retries of the core, with pauses that grow from attempt to attempt.

- :func:`retry_briefly` repeats one request a few times within seconds.
- :class:`Backoff` and :func:`retry_transient` wait until an outage is over. Only the caller sets a limit. They log a
  warning at first, after a minute, and then at growing intervals.
"""

from __future__ import annotations

import logging
import math
import random
import time
from asyncio import sleep
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from firecrest_core import errors

log = logging.getLogger(__name__)

T = TypeVar("T")

# The last three are errors of the user at first contact. Once the server has been reached as this user, they mean an
# outage: the resolver or the identity provider is down.
OUTAGES = (errors.TransientError, errors.AuthenticationFailed, errors.HostNotFound, errors.TLSFailed)

# Seconds for which retries go on before the first contact. The server's probe takes 60 to 120 s to see that a system is
# healthy again. Once a job may exist, only the caller's own limit ends the retries.
FIRST_CONTACT_LIMIT = 300.0

# Seconds: the longest pause of its own choice, and the longest pause that a server may ask for.
LONGEST_PAUSE = 30.0
LONGEST_RETRY_AFTER = 600.0

# How often a request is sent at most when it is retried briefly.
ATTEMPTS = 4
# Seconds. If the server asks for a longer pause, the error is raised at once: a brief retry must not block the caller.
_LONGEST_BRIEF_PAUSE = 30.0

_REPORT_AGAIN_AFTER = 60.0


class Backoff:
    """The state of one outage: how long to pause after each failed request, and when to report it.

    :param began: when the first request failed, in seconds of a monotonic clock
    :ivar reported: whether :meth:`should_report` has said yes so far
    :ivar waited: total seconds that :meth:`wait` has paused
    """

    def __init__(self, began: float = 0.0) -> None:
        self.began = began
        self.reported = False
        self.waited = 0.0
        self._report_at = began
        self._delays = delays()

    def pause(self, error: errors.FirecRESTError) -> float:
        """Return the seconds until the next request.

        The pause grows each time. It is never shorter than the server asked for, up to :data:`LONGEST_RETRY_AFTER`.

        :param error: why the last request failed
        """
        requested = min(error.retry_after or 0.0, LONGEST_RETRY_AFTER)
        return max(next(self._delays), _jittered(requested))

    def should_report(self, now: float) -> bool:
        """Tell whether the outage should be reported now, and note that it was.

        The first report is due at once and the second after a minute. Each further one is due when the outage has
        lasted twice as long as at the report before.

        :param now: seconds of the clock of ``began``
        """
        if now < self._report_at:
            return False
        self.reported = True
        self._report_at = self.began + max(_REPORT_AGAIN_AFTER, 2 * (now - self.began))
        return True

    async def wait(self, error: errors.FirecRESTError, what: str, limit: float = math.inf) -> None:
        """Pause after a failed request, and log a warning if one is due.

        :param error: why the request failed
        :param what: the request in words, for the log
        :param limit: total seconds of pauses after which the error is raised
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
    """Repeat a request until it succeeds.

    If the answer to an attempt was lost, the server may have processed it, so the request must be safe to repeat.

    :param request: sends it
    :param limit: total seconds of pauses. With ``inf``, every error in :data:`OUTAGES` is retried, because the server
        was reached before; with a limit, only a ``TransientError`` is.
    :returns: the answer
    :raises FirecRESTError: the last error, once the limit is reached, or any other error at once
    """
    backoff = Backoff()
    while True:
        try:
            return await request()
        except OUTAGES as error:
            if limit < math.inf and not isinstance(error, errors.TransientError):
                raise
            await backoff.wait(error, "FirecREST", limit)


class RetryBudget:
    """Repeats requests as :func:`retry_transient` does, for a limited time altogether.

    With a limit for each request, thousands of requests in an outage would take days.

    :param seconds: from now on; a request after that is not repeated any more
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    async def __call__(self, request: Callable[[], Awaitable[T]]) -> T:
        """Repeat a request until it succeeds, or the time is over.

        :param request: sends it; it must be safe to repeat
        :returns: the answer
        :raises FirecRESTError: the last error, once the time is over, or any other than a ``TransientError`` at once
        """
        return await retry_transient(request, max(0.0, self._until - time.monotonic()))


async def retry_briefly(
    request: Callable[[], Awaitable[T]],
    *,
    attempts: int = ATTEMPTS,
    longest_pause: float = 4.0,
    only_if: Callable[[BaseException], bool] = lambda error: True,
) -> T:
    """Repeat a request a few times after transient errors, with growing pauses and jitter.

    :param request: sends it
    :param attempts: how often it is sent at most
    :param longest_pause: longest pause between two attempts in seconds, unless the server asks for a longer one
    :param only_if: tells whether the request may be repeated after this error
    :returns: the answer
    :raises FirecRESTError: the last error
    """

    def may_retry(error: BaseException) -> bool:
        return may_pass(error) and only_if(error) and _requested_pause(error) <= _LONGEST_BRIEF_PAUSE

    growing = wait_random_exponential(0.5, max=longest_pause)

    def pause(state: RetryCallState) -> float:
        return max(_requested_pause(state.outcome.exception() if state.outcome else None), growing(state))

    stop = stop_after_attempt(attempts)
    async for attempt in AsyncRetrying(retry=retry_if_exception(may_retry), stop=stop, wait=pause, reraise=True):
        with attempt:
            return await request()
    raise AssertionError("tenacity reraises the last error")


def may_pass(error: BaseException) -> bool:
    """Tell whether a brief retry may help after this error. A host name may fail to resolve for a moment."""
    return isinstance(error, (errors.TransientError, errors.HostNotFound))


def delays(total: float = math.inf) -> Iterator[float]:
    """Yield growing pauses with jitter, which keeps callers from retrying at the same moment.

    :param total: seconds that the pauses add up to, or a little more
    :returns: the pauses, in seconds
    """
    delay, spent = min(1.0, LONGEST_PAUSE), 0.0
    while spent < total:
        yield _jittered(delay)
        spent += delay
        delay = min(2 * delay, LONGEST_PAUSE)


def _requested_pause(error: BaseException | None) -> float:
    return (error.retry_after or 0.0) if isinstance(error, errors.FirecRESTError) else 0.0


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1.0, 1.25)
