"""The jobs that a watcher asks for, who waits for each, and how single questions are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from typing import Any

from firecrest_core import errors
from firecrest_core.api.backoff import Backoff
from firecrest_core.api.client import System
from firecrest_core.api.models import JobInfo
from firecrest_core.jobs.status import parse_status
from firecrest_core.result import JobResult
from firecrest_core.watch.tracker import JobTracker


def now() -> float:
    """Return the event loop's clock, in seconds."""
    return asyncio.get_running_loop().time()


class StatusQueries:
    """Single questions for many jobs, a few at a time; given up when none is answered any more."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._at_once = system.connection.max_in_flight
        self._failed_in_a_row = 0
        self.answered = 0
        self.failed: dict[WatchedJob, errors.FirecRESTError] = {}

    @property
    def given_up(self) -> bool:
        return self._failed_in_a_row >= self._at_once

    async def ask(self, jobs: Sequence[WatchedJob]) -> None:
        queue = iter(jobs)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._at_once, len(jobs))):
                group.create_task(self._ask_for_each(queue))

    async def _ask_for_each(self, queue: Iterator[WatchedJob]) -> None:
        for watched in queue:
            if self.given_up:
                return
            if watched.waiters:
                await self._ask_for(watched)

    async def _ask_for(self, watched: WatchedJob) -> None:
        try:
            rows = await self._system.get_job(watched.job_id)
        except errors.JobNotFound as error:
            watched.on_not_found(error)
        except errors.FirecRESTError as error:
            self._failed_in_a_row += 1
            self.failed[watched] = error
            return
        else:
            if rows:
                watched.on_rows(rows)
            else:
                watched.on_not_found(errors.JobNotFound(f"Job {watched.job_id} on {self._system} is not known there."))
        self._failed_in_a_row = 0
        self.answered += 1


class WatchedJob:
    """A job, and all who wait for it."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.waiters: list[Waiter] = []
        self.ask_at = 0.0
        self._outage: Backoff | None = None
        self._missed = 0
        self._doubted = False

    def is_unclear(self, rows: Sequence[JobInfo]) -> bool:
        """Judge the list's rows of this job; tell whether it has to be asked for itself."""
        self._missed = 0 if rows else self._missed + 1
        doubted = not rows
        for waiter in self.waiters:
            found = parse_status(rows, self.job_id, waiter.tracker.job.array_indices)
            if found.all_ended:
                doubted = True
            elif rows:
                waiter.notify(waiter.tracker.on_status, found)
        if doubted and not self._doubted:
            for waiter in self.waiters:
                waiter.tracker.touch(now())
        self._doubted = doubted
        return doubted and self._missed != 1

    def on_rows(self, rows: Sequence[JobInfo]) -> None:
        """Judge the answer to the question for this job."""
        self.ask_at, self._outage = 0.0, None
        for waiter in self.waiters:
            found = parse_status(rows, self.job_id, waiter.tracker.job.array_indices)
            waiter.notify(waiter.tracker.on_status, found)

    def on_not_found(self, error: errors.JobNotFound) -> None:
        """Judge that the scheduler does not know this job."""
        self.ask_at, self._outage = 0.0, None
        for waiter in self.waiters:
            waiter.notify(waiter.tracker.on_not_found, error)

    def put_off(self, error: errors.FirecRESTError) -> None:
        """This job alone gets no answer: ask for it less and less often."""
        self._outage = self._outage or Backoff(now())
        self.ask_at = now() + self._outage.pause(error)
        self.on_error(error)

    def on_error(self, error: errors.FirecRESTError) -> None:
        """Tell everyone that there is no answer."""
        for waiter in self.waiters:
            waiter.notify(waiter.tracker.on_error, error)


class Waiter:
    """One wait's place at the watcher: what it hears, and when it ends."""

    def __init__(self, tracker: JobTracker, poll_interval: float, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self.tracker = tracker
        self.end: asyncio.Future[JobResult] = loop.create_future()
        self._poll_interval = poll_interval
        # Airflow's triggerer tells by it whose log a line belongs to.
        self._context = copy_context()
        self._timeout = timeout
        self._expired = self._one_round_passed = False
        self._timer = None if timeout is None else loop.call_later(timeout, self._expire)

    def interval(self, at: float, least: float) -> float:
        return min(self._poll_interval, max(least, self.tracker.idle_seconds(at) / 10))

    def notify(self, judge: Callable[[Any, float], JobResult | None], what: Any) -> None:
        """Hand something to the tracker; what that or its callbacks raise ends this wait alone."""
        if self.end.done():
            return
        try:
            result = self._context.run(judge, what, now())
        except Exception as error:
            self.fail(error)
        else:
            if result is not None:
                self.end.set_result(result)

    def round_passed(self) -> None:
        """Note that a whole round has passed: even a wait with a timeout of 0 asks once."""
        self._one_round_passed = True
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
        if self._one_round_passed and self._timeout is not None:
            self.fail(self.tracker.overdue(self._timeout))
