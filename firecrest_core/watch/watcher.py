"""One watcher for all the jobs that a process waits for on one system.

A list of jobs costs the server no more than a query for one of them. So one request in each interval serves all
waiters: thousands of triggers in Airflow's triggerer, or the tasks of a Prefect flow. The schedule:

- Up to two jobs are queried one by one. For more, the watcher requests the list, with a time window that covers the
  oldest job.
- A job whose rows in the list have ended is queried alone, because the list may be ahead, or the job may have been
  preempted and come back. A job that is not in the list twice in a row is queried alone, too: it may still exist. At
  most ``Connection.max_in_flight`` (four) queries are in flight at once.
- The interval is a tenth of the time since the last change, or of the time until a job's time limit. It is at least a
  second, and at most the shortest ``poll_interval`` of the waiters. It is also at least ten times as long as the list
  took, if the waiters' intervals allow that. So a server that needs a second for its list is queried every ten.
- When the server does not answer, the watcher requests only the list (or queries its one or two jobs). The pause
  before each request doubles up to half a minute, or is as long as the server's ``Retry-After``.
- When the list has failed three times in a row and the server does answer, it queries one job. If that is answered,
  only the list fails, for example because it is too long, and all jobs are queried one by one.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from firecrest_core import errors, telemetry
from firecrest_core.api.backoff import OUTAGES, Backoff
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.api.models import JobInfo
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job
from firecrest_core.loop_worker import LoopWorker
from firecrest_core.result import JobResult
from firecrest_core.states import Phase
from firecrest_core.watch.subscriptions import StatusQueries, Waiter, WatchedJob, now
from firecrest_core.watch.tracker import JobTracker, OnMessage, OnStatus

_ASKED_ONE_BY_ONE = 2
# After so many failures of the list in a row, single jobs may still be answered.
_LIST_FAILURES = 3
# With these errors no request is answered. With any other, single jobs may be answered although the list is not.
_CONCERN_ALL_REQUESTS = (
    errors.ServerUnreachable,
    errors.RateLimited,
    errors.SystemUnhealthy,
    errors.AuthenticationFailed,
    errors.HostNotFound,
    errors.TLSFailed,
)
_SHORTEST = 1.0
# FirecREST's values of time_window, in seconds. Jobs that wait or run are listed whatever their age.
_WINDOWS = {"1h": 3600, "8h": 8 * 3600, "24h": 24 * 3600, "3d": 3 * 24 * 3600, "7d": 7 * 24 * 3600}
# How many jobs are handled before other tasks of the event loop may run.
_SLICE = 200


class JobWatcher(LoopWorker):
    """Queries all jobs that have waiters on one system, as one user, in one event loop.

    It runs while there are waiters. Its client is its own and is closed when the last waiter leaves.

    :param connection: the deployment and the user
    :param system: the system's name
    :param client_type: the class of the client
    """

    def __init__(
        self, connection: Connection, system: str, client_type: type[FirecRESTClient] = FirecRESTClient
    ) -> None:
        super().__init__(replace(connection, system=system), client_type)
        self._system = system
        self._jobs: dict[str, WatchedJob] = {}
        self._newcomer = asyncio.Event()
        self._has_list = False
        self._list_failures = 0
        self._list_took = 0.0
        self._ended_at = -math.inf
        self._ask_at = 0.0
        self._outage: Backoff | None = None
        self._down: errors.FirecRESTError | None = None

    @classmethod
    def shared(
        cls, connection: Connection, system: str, client_type: type[FirecRESTClient] = FirecRESTClient
    ) -> JobWatcher:
        """Return the running event loop's watcher for this system and user.

        Connections that differ in anything but the default system, for example in the secret, have different watchers.

        :param connection: the deployment and the user
        :param system: the system's name
        :param client_type: the class of the client
        """
        return cls(connection, system, client_type)._shared()

    async def wait(
        self,
        job: Job,
        *,
        poll_interval: float = 10.0,
        timeout: float | None = None,
        waited: float = 0.0,
        on_message: OnMessage | None = None,
        on_warning: OnMessage | None = None,
        on_status: OnStatus | None = None,
        fail_if_stuck: bool = False,
        not_found_grace: float | None = None,
        provisional_grace: float | None = None,
    ) -> JobResult:
        """Wait until a job has ended in any state. Cancelling the wait does not cancel the job.

        :param job: the job to wait for
        :param poll_interval: longest time between two queries, in seconds; a young job is queried more often
        :param timeout: seconds after which to stop waiting, though not before the first answer; the job is not
            cancelled
        :param waited: seconds of the timeout that have passed already
        :param on_message: gets a line for the job's first state, each change with its reason, node and elapsed time,
            and each outage; called in the waiter's context, as the next one is
        :param on_warning: gets a line for what keeps the job from starting; ``on_message`` unless given
        :param on_status: gets each status until the job has ended; called in the waiter's context
        :param fail_if_stuck: raise an error when the job can never start, instead of a warning only
        :param not_found_grace: seconds for which the scheduler may not know the job; a minute unless given
        :param provisional_grace: seconds for which a preempted job, or one whose node failed, may come back (a minute
            unless given), and for which elements of an array may not be listed after its end (five minutes)
        :returns: how the job ended
        :raises WaitTimedOut: after ``timeout``
        :raises JobNotFound: the scheduler still does not know the job after ``not_found_grace``
        :raises JobStuck: the job can never start; only with ``fail_if_stuck``
        """
        tracker = JobTracker(
            job,
            now(),
            on_message=on_message,
            on_warning=on_warning,
            on_status=on_status,
            fail_if_stuck=fail_if_stuck,
            not_found_grace=not_found_grace,
            provisional_grace=provisional_grace,
        )
        waiter = Waiter(tracker, max(poll_interval, 0.1), timeout, waited)
        self._join(waiter)
        try:
            result = await waiter.end
            self._ended_at = now()
            return result
        finally:
            waiter.dismiss()
            await self._leave(waiter)

    # --- the waiters ------------------------------------------------------------------------------

    def _waiters(self) -> Iterator[Waiter]:
        return (waiter for watched in self._jobs.values() for waiter in watched.waiters)

    def _join(self, waiter: Waiter) -> None:
        job = waiter.tracker.job
        self._jobs.setdefault(job.job_id, WatchedJob(job.job_id)).waiters.append(waiter)
        if self._start():
            return
        if self._down:
            waiter.notify(waiter.tracker.on_error, self._down)
            waiter.round_passed()
        else:
            self._newcomer.set()

    async def _leave(self, waiter: Waiter) -> None:
        watched = self._jobs[waiter.tracker.job.job_id]
        watched.waiters.remove(waiter)
        if not watched.waiters:
            del self._jobs[watched.job_id]
        if not self._jobs:
            self._tell_jobs(())
            await self._end()

    # --- the schedule -----------------------------------------------------------------------------

    async def _run(self) -> None:
        self._down, self._ask_at, self._outage = None, 0.0, None
        try:
            # One attempt for each request, because the watcher retries by itself and for longer than a client.
            async with self._client_type(self._connection, attempts=1) as client:
                system = client.system(self._system)
                while True:
                    began, watched = now(), list(self._jobs.values())
                    if any(waiter.tracker.job.is_ours for waiter in self._waiters()):
                        client.trust_url()
                    await self._round(system, watched)
                    for one in watched:
                        for waiter in one.waiters:
                            waiter.round_passed()
                    await self._pause(began)
        except Exception as error:  # a bug in this code must end the waits, not let them hang
            for waiter in self._waiters():
                waiter.fail(error)

    async def _round(self, system: System, watched: Sequence[WatchedJob]) -> None:
        """Query every job once."""
        unclear: Sequence[WatchedJob] | None = None
        asked_at, self._list_took = now(), 0.0
        if len(watched) > _ASKED_ONE_BY_ONE:
            try:
                unclear = await self._query_list(system, watched)
                self._list_failures = 0
            except errors.FirecRESTError as error:
                self._list_failures += 1
                if not await self._only_the_list_fails(error, system, watched):
                    self._server_is_down(error, {})
                    return
        began = now()
        queries = StatusQueries(system)
        await queries.ask([one for one in (watched if unclear is None else unclear) if one.ask_at <= now()])
        if self._list_failures:
            self._list_took = (now() - began) / 10  # so that the next round begins after a pause as long as this one
        last_error = next(reversed(queries.failed.values()), None)
        if last_error and unclear is None and not queries.answered:
            self._server_is_down(last_error, queries.failed)
            return
        self._down = None
        self._tell_jobs(watched)
        telemetry.timing("poll", now() - asked_at, system=self._system)
        for one, its_error in queries.failed.items():
            one.put_off(its_error)
        if last_error and queries.given_up:
            self._put_off(last_error)
        else:
            self._ask_at, self._outage = 0.0, None

    def _tell_jobs(self, watched: Sequence[WatchedJob]) -> None:
        phases = Counter(one.phase for one in watched)
        for name, phase in (("jobs.waiting", Phase.WAITING), ("jobs.running", Phase.RUNNING)):
            telemetry.gauge(name, phases[phase], system=self._system)

    async def _only_the_list_fails(
        self, error: errors.FirecRESTError, system: System, watched: Sequence[WatchedJob]
    ) -> bool:
        if self._list_failures < _LIST_FAILURES or isinstance(error, _CONCERN_ALL_REQUESTS):
            return False
        probe = StatusQueries(system)
        await probe.ask([watched[self._list_failures % len(watched)]])
        return probe.answered > 0

    def _server_is_down(
        self, last_error: errors.FirecRESTError, failed: Mapping[WatchedJob, errors.FirecRESTError]
    ) -> None:
        self._down = last_error
        self._put_off(last_error)
        for one in self._jobs.values():
            one.on_error(failed.get(one, last_error))

    def _put_off(self, error: errors.FirecRESTError) -> None:
        self._outage = self._outage or Backoff(now())
        self._ask_at = now() + self._outage.pause(error)

    def _interval(self) -> float:
        at, least = now(), max(_SHORTEST, 10 * self._list_took)
        after_an_end = max(least, (at - self._ended_at) / 10)  # jobs that began together often end together
        intervals = [one.interval(at, least) for one in self._waiters()]
        return min([after_an_end, *intervals]) * random.uniform(0.9, 1.0)

    async def _pause(self, began: float) -> None:
        """Sleep until the next round. A new waiter brings it forward; several new waiters share one round."""
        while (until := max(self._ask_at, began + self._interval())) > now():
            self._newcomer.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._newcomer.wait()
            except TimeoutError:
                return

    async def _query_list(self, system: System, watched: Sequence[WatchedJob]) -> Sequence[WatchedJob] | None:
        """Request the list, pass its rows on to the jobs, and return the jobs that have to be queried alone.

        It returns ``None`` if the server refuses the list, because it may still answer queries for single jobs.
        """
        began = now()
        try:
            rows = await system.get_jobs(time_window=_window(watched))
        except errors.FirecRESTError as error:
            if self._has_list or isinstance(error, OUTAGES):
                raise
            return None
        self._has_list, self._list_took = True, now() - began
        by_job: defaultdict[str, list[JobInfo]] = defaultdict(list)
        for row in rows:
            by_job[row.of_job].append(row)
        unclear = []
        for number, one in enumerate(watched, 1):
            if one.is_unclear(by_job.get(one.job_id, [])):
                unclear.append(one)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        return unclear


def _window(watched: Iterable[WatchedJob]) -> str:
    """Return the shortest time window that covers every job whose submission is known."""
    submitted = [one.tracker.job.submitted_at for job in watched for one in job.waiters]
    age = time.time() - min(filter(None, submitted), default=time.time())
    return next((name for name, seconds in _WINDOWS.items() if seconds > age + 300), "7d")
