"""Submissions that wait in line while a limit on submitted jobs is reached.

A sweep of a thousand tasks may be far above what a site lets one user submit. All submissions of a process to one
system stand in one line. Only the first of them tries, with growing pauses. When it finds room, the next one tries at
once. Until then nothing is submitted.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from firecrest_core import errors
from firecrest_core.api.backoff import Backoff
from firecrest_core.api.client import System
from firecrest_core.api.submit_limits import counts_own_jobs
from firecrest_core.connection import Connection

log = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds for which a count of the user's jobs is told to all that wait.
_COUNT_HOLDS = 60.0
# Seconds for which no job of the user is to be seen until the limit counts as too low for the waiting job. A job is
# seen within seconds of its submission.
_LONGEST_UNSEEN = 60.0

_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[Connection, str], SubmissionQueue]] = (
    WeakKeyDictionary()
)


class SubmissionQueue:
    """The submissions of one user to one system, in one event loop.

    :param system: the system; the queue asks it how many jobs of the user are there
    """

    def __init__(self, system: System) -> None:
        self._name = system.name
        self._reached: errors.SubmissionLimitReached | None = None
        self._first = asyncio.Lock()
        self._backoff = _new_backoff()
        self._counting = asyncio.Lock()
        self._count: int | None = None
        self._counted_at = -math.inf
        self._unseen_since: float | None = None

    @classmethod
    def shared(cls, system: System) -> SubmissionQueue:
        """Return the running event loop's queue for this system and user.

        :param system: the system, as the user
        """
        queues = _queues.setdefault(asyncio.get_running_loop(), {})
        return queues.setdefault((system.connection, system.name), cls(system))

    async def submit(self, system: System, name: str, post: Callable[[], Awaitable[T]]) -> T:
        """Submit a job as soon as there is room for it.

        :param system: where to submit it
        :param name: the job's name, for the log
        :param post: submits it once
        :returns: what ``post`` returns
        :raises SubmissionRejected: the limit is below what this job alone needs, such as the elements of an array
        :raises FirecRESTError: any error of ``post`` but ``SubmissionLimitReached``
        """
        if self._reached is None:
            try:
                return await post()
            except errors.SubmissionLimitReached as error:
                self._reached = error
        log.warning("%s waits for room on %s: %s", name, self._name, await self._description(system, self._reached))
        async with self._first:
            while True:
                if self._reached is not None:
                    await self._backoff.wait(self._reached, name)
                try:
                    submitted = await post()
                except errors.SubmissionLimitReached as error:
                    self._reached = error
                    await self._description(system, error)
                    self._refuse_if_never_possible(name, error)
                else:
                    self._reached, self._backoff, self._unseen_since = None, _new_backoff(), None
                    return submitted

    async def _description(self, system: System, error: errors.SubmissionLimitReached) -> str:
        """Say which limit is reached and how many jobs of the user hold it, with one request for all that wait."""
        async with self._counting:
            if _now() >= self._counted_at + _COUNT_HOLDS:
                self._count = await _count_jobs(system)
                self._counted_at = _now()
                if self._count != 0:
                    self._unseen_since = None
                elif self._unseen_since is None:
                    self._unseen_since = self._counted_at
        if self._count is None:
            return f"{error.limit} is reached."
        jobs = "job of yours is" if self._count == 1 else "jobs of yours are"
        return f"{error.limit} is reached; {self._count or 'no'} {jobs} waiting or running there."

    def _refuse_if_never_possible(self, name: str, error: errors.SubmissionLimitReached) -> None:
        if not counts_own_jobs(error.limit) or self._unseen_since is None:
            return
        if self._counted_at - self._unseen_since >= _LONGEST_UNSEEN:
            raise errors.SubmissionRejected(
                f"{name} cannot be submitted to {self._name}: {error.limit} is reached although no job of yours is "
                "there. The limit is below what this job alone needs, for example the elements of its array. Split "
                "it, or ask the site for a higher limit."
            )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _new_backoff() -> Backoff:
    """Return a backoff whose first report is not due, because each submission reports once that it waits."""
    backoff = Backoff()
    backoff.should_report(0.0)
    return backoff


async def _count_jobs(system: System) -> int | None:
    """Count the user's jobs that wait or run; return ``None`` if the server does not answer."""
    try:
        return sum(not row.state.ended for row in await system.get_jobs())
    except errors.FirecRESTError as error:
        log.debug("The jobs on %s cannot be counted: %s", system, error)
        return None
