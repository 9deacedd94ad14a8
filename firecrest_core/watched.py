"""The jobs that a watcher asks for, who waits for each, and how single questions are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from typing import Any

from firecrest_core import errors, progress
from firecrest_core.client import FirecRESTClient
from firecrest_core.models import JobInfo
from firecrest_core.outage import Outage
from firecrest_core.result import JobResult
from firecrest_core.waiting import Vigil


def now() -> float:
    """Return the event loop's clock, in seconds."""
    return asyncio.get_running_loop().time()


class Questions:
    """Single questions for many jobs, a few at a time; given up when none is answered any more."""

    def __init__(self, client: FirecRESTClient, system: str, at_once: int) -> None:
        self._client = client
        self._system = system
        self._at_once = at_once
        self._failed_in_a_row = 0
        self.answered = 0
        self.failed: dict[Watched, errors.FirecRESTError] = {}

    @property
    def given_up(self) -> bool:
        return self._failed_in_a_row >= self._at_once

    async def ask(self, jobs: Sequence[Watched]) -> None:
        queue = iter(jobs)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._at_once, len(jobs))):
                group.create_task(self._ask_for_each(queue))

    async def _ask_for_each(self, queue: Iterator[Watched]) -> None:
        for watched in queue:
            if self.given_up:
                return
            if watched.waiters:
                await self._ask_for(watched)

    async def _ask_for(self, watched: Watched) -> None:
        try:
            rows = await self._client.get_job(self._system, watched.job_id)
        except errors.JobNotFound as error:
            watched.missing(error)
        except errors.FirecRESTError as error:
            self._failed_in_a_row += 1
            self.failed[watched] = error
            return
        else:
            if rows:
                watched.seen(rows)
            else:
                watched.missing(errors.JobNotFound(f"Job {watched.job_id} on {self._system} is not known there."))
        self._failed_in_a_row = 0
        self.answered += 1


class Watched:
    """A job, and all who wait for it."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.waiters: list[Waiter] = []
        self.ask_at = 0.0
        self._outage: Outage | None = None
        self._missed = 0
        self._doubted = False

    def is_unclear(self, rows: Sequence[JobInfo]) -> bool:
        """Judge the list's rows of this job; tell whether it has to be asked for itself."""
        self._missed = 0 if rows else self._missed + 1
        doubted = not rows
        for waiter in self.waiters:
            found = progress.read(rows, self.job_id, waiter.vigil.job.array_indices)
            if found.settled:
                doubted = True
            elif rows:
                waiter.hear(waiter.vigil.seen, found)
        if doubted and not self._doubted:
            for waiter in self.waiters:
                waiter.vigil.stir(now())
        self._doubted = doubted
        return doubted and self._missed != 1

    def seen(self, rows: Sequence[JobInfo]) -> None:
        """Judge the answer to the question for this job."""
        self.ask_at, self._outage = 0.0, None
        for waiter in self.waiters:
            found = progress.read(rows, self.job_id, waiter.vigil.job.array_indices)
            waiter.hear(waiter.vigil.seen, found)

    def missing(self, error: errors.JobNotFound) -> None:
        """Judge that the scheduler does not know this job."""
        self.ask_at, self._outage = 0.0, None
        for waiter in self.waiters:
            waiter.hear(waiter.vigil.missing, error)

    def put_off(self, error: errors.FirecRESTError) -> None:
        """This job alone gets no answer: ask for it less and less often."""
        self._outage = self._outage or Outage(now())
        self.ask_at = now() + self._outage.pause(error)
        self.troubled(error)

    def troubled(self, error: errors.FirecRESTError) -> None:
        """Tell everyone that there is no answer."""
        for waiter in self.waiters:
            waiter.hear(waiter.vigil.troubled, error)


class Waiter:
    """One wait's place at the watcher: what it hears, and when it ends."""

    def __init__(self, vigil: Vigil, poll_interval: float, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self.vigil = vigil
        self.end: asyncio.Future[JobResult] = loop.create_future()
        self._poll_interval = poll_interval
        # Airflow's triggerer tells by it whose log a line belongs to.
        self._context = copy_context()
        self._timeout = timeout
        self._expired = self._looked = False
        self._timer = None if timeout is None else loop.call_later(timeout, self._expire)

    def interval(self, at: float, least: float) -> float:
        return min(self._poll_interval, max(least, self.vigil.calm(at) / 10))

    def hear(self, judge: Callable[[Any, float], JobResult | None], what: Any) -> None:
        """Let the vigil judge something; what it or its story raises is this waiter's alone."""
        if self.end.done():
            return
        try:
            result = self._context.run(judge, what, now())
        except Exception as error:
            self.fail(error)
        else:
            if result is not None:
                self.end.set_result(result)

    def looked(self) -> None:
        """Note that a whole round has passed: even a wait without patience has looked once."""
        self._looked = True
        if self._expired:
            self._expire()

    def fail(self, error: Exception) -> None:
        if not self.end.done():
            self.end.set_exception(error)

    def dismiss(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self.end.done() and not self.end.cancelled():
            self.end.exception()  # asyncio complains of one that a cancelled waiter did not fetch

    def _expire(self) -> None:
        self._expired = True
        if self._looked and self._timeout is not None:
            self.fail(self.vigil.overdue(self._timeout))
