"""Cancels this process's jobs when a person ends their flow run, in whatever thread or flow they were submitted.

Prefect interrupts the main thread alone: what was begun with ``.submit()`` goes on, and so does a script that no runner
started. So while jobs of this process may be alive, the monitor asks for the states of their flow runs, with one
request for all of them. When the process exits it asks once more: a runner gives it some seconds for that. A process
that is killed, or stopped with its machine, asks nothing; :mod:`prefect_firecrest.reconcile` finds what it leaves.

When a flow run has completed, the monitor removes the claims of its jobs. Until then a retry of the flow run needs
them. The claims of jobs that were submitted minutes ago are left to the reconciler, or to age.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from firecrest_core import lifecycle
from firecrest_core.errors import FirecRESTError
from prefect_firecrest.cancellation import records
from prefect_firecrest.cancellation.cancel import cancel_recorded
from prefect_firecrest.cancellation.ends import show_ends
from prefect_firecrest.cancellation.policy import EndReason, cancel_reason, is_completed, is_finished, read_flow_runs
from prefect_firecrest.cancellation.records import JobRecord, RecordWriter
from prefect_firecrest.cancellation.removal import remove_claims
from prefect_firecrest.prefect_internals import settings_context, task_runs_with_timeout, took_too_long
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import TaskRun

    from firecrest_core.connection import Connection
    from firecrest_core.jobs.job import Job

log = logging.getLogger(__name__)

INTERVAL = 3.0
"""Seconds between two requests for the flow runs' states."""

# The same, while no job is alive.
_INTERVAL_AFTER_END = 60.0
# A runner kills after thirty seconds; the reconciler does what is left then.
_TIME_AT_EXIT = 25.0
_MOST_WATCHED = 5000

_JobKey = tuple[str, int] | str
_Login = tuple["Connection", str | None]


@dataclass
class _Submission:
    """The jobs of one submission.

    :param api: the URL of the Prefect API that knows the flow runs
    :param waiting: the task runs that wait for it, as far as they have a timeout
    :param settled_at: when no request that submits one of its jobs is on its way any more, on the monotonic clock
    :param claimed: its claims are there, and may be removed one day
    :param written: it was written down
    """

    flow_runs: tuple[UUID, ...]
    connection: Connection
    record: JobRecord
    api: str
    alive: bool = True
    waiting: list[TaskRun] = field(default_factory=list)
    settled_at: float = math.inf
    claimed: bool = True
    written: bool = False

    @property
    def login(self) -> _Login:
        """Its connection and the name of that one's block."""
        return self.connection, self.record.credentials

    @property
    def settled(self) -> bool:
        """Whether its claims can be removed once its flow run has completed."""
        return not self.alive and self.claimed and self.settled_at <= time.monotonic()

    @property
    def took_too_long(self) -> bool:
        """Whether the timeout of a task that waits for its jobs has passed."""
        return any(took_too_long(task_run.state) for task_run in self.waiting)


class JobMonitor:
    """Watches the flow runs of this process's jobs. ``runtime.state(JobMonitor)`` is the only one.

    Its coroutines run in the runtime's event loop.
    """

    def __init__(self) -> None:
        self._submissions: dict[_JobKey, _Submission] = {}
        self._artifacts: defaultdict[tuple[UUID, ...], set[UUID]] = defaultdict(set)
        self._scanning: asyncio.Task[None] | None = None
        # Each API is asked for its own flow runs alone. It does not know those of another one, as if they were deleted,
        # and then their jobs would be cancelled.
        self._contexts: dict[str, Context] = {}
        self._lock = asyncio.Lock()
        self._woken = asyncio.Event()

    async def watch(self, flow_runs: tuple[UUID, ...], connection: Connection, record: JobRecord) -> None:
        """Watch the flow run of what is about to be submitted. :meth:`write_down` follows before it may exist.

        :param flow_runs: the flow run and those that it runs in, the innermost first; without any, nothing is watched
        """
        from prefect.settings import PREFECT_API_URL

        if not flow_runs:
            return
        if len(self._submissions) > _MOST_WATCHED:
            self._submissions = {key: one for key, one in self._submissions.items() if one.alive}
        api, claimed = PREFECT_API_URL.value() or "", record.identity is not None
        self._contexts[api] = settings_context()
        waiting = task_runs_with_timeout()
        submission = _Submission(flow_runs, connection, record, api, waiting=waiting, claimed=claimed)
        self._submissions[_job_key(record.job())] = submission
        self._keep_scanning()

    async def write_down(self, record: JobRecord) -> None:
        """Write down in Prefect what may exist from now on, unless that was done.

        :param record: as it was given to :meth:`watch`
        """
        submission = self._submissions.get(_job_key(record.job()))
        if submission is None or submission.written:
            return
        signed = record.signed(submission.connection, submission.flow_runs)
        self._artifacts[submission.flow_runs].add(await runtime.state(RecordWriter).write(submission.flow_runs, signed))
        submission.written = True

    def on_not_submitted(self, record: JobRecord) -> None:
        """Forget what cannot exist, because no request of it has left.

        :param record: as it was given to :meth:`watch`
        """
        submission = self._submissions.get(_job_key(record.job()))
        if submission is not None and not submission.written:
            del self._submissions[_job_key(record.job())]

    def is_alive(self, job: Job) -> bool:
        """Tell whether a job is of this process and is not known to have ended."""
        submission = self._submissions.get(_job_key(job))
        return submission is not None and submission.alive

    def flow_runs_of(self, job: Job) -> tuple[UUID, ...]:
        """Return the flow run of a job and those that it runs in, the innermost first; none of a job of others."""
        submission = self._submissions.get(_job_key(job))
        return submission.flow_runs if submission is not None else ()

    def on_submit(self, job: Job) -> None:
        """Record that a job is being submitted once more."""
        if submission := self._submissions.get(_job_key(job)):
            submission.settled_at = math.inf

    def on_submitted(self, job: Job) -> None:
        """Record that a job was submitted or found, so that the call for it is over."""
        if submission := self._submissions.get(_job_key(job)):
            submission.settled_at = time.monotonic() + lifecycle.SETTLED_AFTER

    def on_wait(self, job: Job) -> None:
        """Record that somebody waits for a job, or for one in its place."""
        if submission := self._submissions.get(_job_key(job)):
            submission.alive = True
            submission.waiting = task_runs_with_timeout()
            self._keep_scanning()

    def on_end(self, job: Job) -> None:
        """Record that a job has ended."""
        if submission := self._submissions.get(_job_key(job)):
            submission.alive = False

    async def scan(self) -> None:
        """Cancel the jobs of the flow runs that a person has ended, and remove the claims of those that completed."""
        async with self._lock:
            await self._scan()

    def scan_at_exit(self) -> None:
        """Scan once more when the process exits, and let a scan that is under way come to its end."""
        if not self._lock.locked() and not any(one.alive or one.settled for one in self._submissions.values()):
            return

        async def scan() -> None:
            async with asyncio.timeout(_TIME_AT_EXIT):
                await self.scan()

        try:
            runtime.run(scan())
        except Exception as error:
            _report_failure(error, self._submissions.values())

    def _keep_scanning(self) -> None:
        self._woken.set()
        if self._scanning is None or self._scanning.done():
            self._scanning = asyncio.create_task(self._scan_until_nothing_is_left())
            # The handler that was registered last runs first, before that of the server which Prefect may have started
            # for this process.
            atexit.unregister(_scan_at_exit)
            atexit.register(_scan_at_exit)

    async def _scan_until_nothing_is_left(self) -> None:
        while any(one.alive or one.claimed for one in self._submissions.values()):
            if any(one.alive for one in self._submissions.values()):
                await asyncio.sleep(INTERVAL)
            else:
                self._woken.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), _INTERVAL_AFTER_END)
                    continue  # a job was submitted
            await self.scan()

    async def _scan(self) -> None:
        by_api: defaultdict[str, list[_Submission]] = defaultdict(list)
        for one in self._submissions.values():
            if one.alive or one.settled:
                by_api[one.api].append(one)
        scans = [asyncio.create_task(self._ask(asked), context=self._contexts[api]) for api, asked in by_api.items()]
        ends = await asyncio.gather(*scans, return_exceptions=True)
        for error, asked in zip(ends, by_api.values(), strict=True):
            if isinstance(error, Exception):  # Prefect's API may be away; its own client reports that
                _report_failure(error, asked)

    async def _ask(self, asked: Sequence[_Submission]) -> None:
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            found = await read_flow_runs(client, [flow_run for one in asked for flow_run in one.flow_runs])
            completed: list[_Submission] = []
            for flow_runs in dict.fromkeys(one.flow_runs for one in asked):
                theirs = [one for one in asked if one.flow_runs == flow_runs]
                if too_long := [one for one in theirs if one.alive and one.took_too_long]:
                    await self._cancel(too_long, EndReason.TASK_TOO_LONG)
                alive = [one for one in theirs if one.alive]
                if reason := cancel_reason(flow_runs, found):
                    if alive and await self._cancel(alive, reason):
                        await records.delete(client, self._artifacts.pop(flow_runs, ()))
                    for one in theirs:
                        one.claimed = one.alive
                elif is_finished(flow_runs, found):
                    for one in alive:
                        one.alive = False
                        one.claimed = one.settled_at < math.inf  # else its submission never came to an end
                    if is_completed(flow_runs, found):
                        completed += [one for one in theirs if one.settled]
                    else:
                        for one in theirs:
                            one.claimed = False  # a retry of the flow run needs them
            await self._remove_claims(client, completed)

    async def _remove_claims(self, client: PrefectClient, completed: list[_Submission]) -> None:
        by_connection: defaultdict[_Login, list[JobRecord]] = defaultdict(list)
        for one in completed:
            one.claimed = False  # what is left after this goes by age
            by_connection[one.login].append(one.record)
        for login, some in by_connection.items():
            try:
                await remove_claims(*login, some)
            except FirecRESTError as error:
                log.debug("The claims of %d submissions are left to age: %s", len(some), error)
        for flow_runs in dict.fromkeys(one.flow_runs for one in completed):
            if not any(one.claimed for one in self._submissions.values() if one.flow_runs == flow_runs):
                await records.delete(client, self._artifacts.pop(flow_runs, ()))

    async def _cancel(self, submissions: list[_Submission], reason: EndReason) -> bool:
        by_connection: defaultdict[_Login, list[_Submission]] = defaultdict(list)
        for one in submissions:
            by_connection[one.login].append(one)
        succeeded = True
        for login, some in by_connection.items():
            try:
                await cancel_recorded(*login, [one.record for one in some])
            except FirecRESTError as error:
                log.error("The flow run %s, but not all of its jobs could be cancelled: %s", reason, error)
                succeeded = False
            else:
                log.info("The flow run %s, and its jobs were cancelled.", reason)
                for one in some:
                    one.alive = False
                succeeded &= await show_ends(*login, _by_flow_run(some), reason)
        return succeeded


def _by_flow_run(submissions: Iterable[_Submission]) -> dict[tuple[UUID, ...], list[JobRecord]]:
    found: defaultdict[tuple[UUID, ...], list[JobRecord]] = defaultdict(list)
    for one in submissions:
        found[one.flow_runs].append(one.record)
    return found


def _report_failure(error: Exception, asked: Iterable[_Submission]) -> None:
    level = logging.WARNING if any(one.alive for one in asked) else logging.DEBUG
    log.log(level, "Cannot see whether the flow runs of this process's jobs were cancelled: %s", error)


def _job_key(job: Job) -> _JobKey:
    return (job.key.identity, job.key.epoch) if job.key is not None else f"{job.system} {job.job_id}"


def _scan_at_exit() -> None:
    runtime.state(JobMonitor).scan_at_exit()
