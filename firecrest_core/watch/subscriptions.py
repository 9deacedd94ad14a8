"""The jobs of a watcher, the waiters of each job, and the status queries for single jobs."""

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
from firecrest_core.states import Phase
from firecrest_core.watch.tracker import JobTracker


def now() -> float:
    """Return the event loop's clock, in seconds."""
    return asyncio.get_running_loop().time()


class StatusQueries:
    """Status queries for single jobs, a few at a time.

    The queries stop when as many in a row have failed as may be in flight at once.

    :param system: where the jobs are
    :ivar answered: how many queries were answered
    :ivar failed: the jobs whose query failed, with the error
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._at_once = system.connection.max_in_flight
        self._failed_in_a_row = 0
        self.answered = 0
        self.failed: dict[WatchedJob, errors.FirecRESTError] = {}

    @property
    def given_up(self) -> bool:
        """Whether the queries were stopped because too many in a row failed."""
        return self._failed_in_a_row >= self._at_once

    async def ask(self, jobs: Sequence[WatchedJob]) -> None:
        """Query each of these jobs that somebody still waits for, and pass the answers on to it."""
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
    """A job and its waiters.

    :param job_id: the job's id
    :ivar waiters: the waits for this job
    :ivar ask_at: no query for this job alone is sent before this time of the event loop's clock
    :ivar phase: where it was seen last; ``None`` before the first answer
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.waiters: list[Waiter] = []
        self.ask_at = 0.0
        self.phase: Phase | None = None
        self._outage: Backoff | None = None
        self._absences = 0
        self._unclear = False

    def is_unclear(self, rows: Sequence[JobInfo]) -> bool:
        """Pass the list's rows of this job on to its waiters.

        :param rows: its rows in the list of jobs, perhaps none
        :returns: whether this job has to be queried alone: its rows have ended, or it was not in the list twice in a
            row
        """
        self._absences = 0 if rows else self._absences + 1
        unclear = not rows
        for waiter in self.waiters:
            status = parse_status(rows, self.job_id, waiter.tracker.job.array_indices)
            if status.all_ended:
                unclear = True
            elif rows:
                self.phase = status.state.phase
                waiter.notify(waiter.tracker.on_status, status)
        if unclear and not self._unclear:
            for waiter in self.waiters:
                waiter.tracker.touch(now())
        self._unclear = unclear
        return unclear and self._absences != 1

    def on_rows(self, rows: Sequence[JobInfo]) -> None:
        """Pass the answer to a query for this job on to its waiters."""
        self.ask_at, self._outage = 0.0, None
        for waiter in self.waiters:
            status = parse_status(rows, self.job_id, waiter.tracker.job.array_indices)
            self.phase = status.state.phase
            waiter.notify(waiter.tracker.on_status, status)

    def on_not_found(self, error: errors.JobNotFound) -> None:
        """Tell the waiters that the scheduler does not know this job."""
        self.ask_at, self._outage = 0.0, None
        for waiter in self.waiters:
            waiter.notify(waiter.tracker.on_not_found, error)

    def put_off(self, error: errors.FirecRESTError) -> None:
        """Delay the next query for this job, and tell the waiters that there is no answer.

        The delay grows each time. This is used when the queries for other jobs are answered.
        """
        self._outage = self._outage or Backoff(now())
        self.ask_at = now() + self._outage.pause(error)
        self.on_error(error)

    def on_error(self, error: errors.FirecRESTError) -> None:
        """Tell the waiters that there is no answer."""
        for waiter in self.waiters:
            waiter.notify(waiter.tracker.on_error, error)


class Waiter:
    """One wait for a job: it gets the watcher's answers and has a result or an error at its end.

    :param tracker: judges the answers
    :param poll_interval: longest time between two queries, in seconds
    :param timeout: seconds after which the wait fails, ``None`` for no limit
    :param waited: seconds of the timeout that have passed already
    :ivar end: the result or error of the wait
    """

    def __init__(self, tracker: JobTracker, poll_interval: float, timeout: float | None, waited: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        self.tracker = tracker
        self.end: asyncio.Future[JobResult] = loop.create_future()
        self._poll_interval = poll_interval
        # Airflow's triggerer uses the context to assign a log line to its trigger.
        self._context = copy_context()
        self._timeout = timeout
        self._expired = self._one_round_passed = False
        self._timer = None if timeout is None else loop.call_later(max(0.0, timeout - waited), self._expire)

    def interval(self, at: float, least: float) -> float:
        """Return the seconds until this wait's next query: a tenth of :meth:`JobTracker.idle_seconds`.

        :param at: the current time of the event loop's clock
        :param least: shortest interval in seconds
        """
        return min(self._poll_interval, max(least, self.tracker.idle_seconds(at) / 10))

    def notify(self, handler: Callable[[Any, float], JobResult | None], event: Any) -> None:
        """Pass an event on to the tracker. An error of the tracker or of its callbacks ends only this wait.

        :param handler: the tracker's method for the event
        :param event: its first argument
        """
        if self.end.done():
            return
        try:
            result = self._context.run(handler, event, now())
        except Exception as error:
            self.fail(error)
        else:
            if result is not None:
                self.end.set_result(result)

    def round_passed(self) -> None:
        """Note that a whole round of queries has passed. Until then no timeout applies, so each wait queries once."""
        self._one_round_passed = True
        if self._expired:
            self._expire()

    def fail(self, error: Exception) -> None:
        """End this wait with an error, unless it has ended."""
        if not self.end.done():
            self.end.set_exception(error)

    def dismiss(self) -> None:
        """Stop the timeout, because the wait is over."""
        if self._timer:
            self._timer.cancel()
        if self.end.done() and not self.end.cancelled():
            self.end.exception()  # asyncio warns of an exception that was never retrieved, as after a cancelled wait

    def _expire(self) -> None:
        self._expired = True
        if self._one_round_passed and self._timeout is not None:
            self.fail(self.tracker.overdue(self._timeout))
