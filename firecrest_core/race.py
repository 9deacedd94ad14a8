"""A race: the alternatives of one job wait in several queues, and the first that begins runs.

All of them are submitted for one key, so the claim lets exactly one run its payload, whoever waits and whatever dies.
What is here makes the wait short: it asks for all of them at once, and as soon as one has begun, the claim says which
one runs, and the others are cancelled. That is used like this::

    job = await lifecycle.submit(system, spec, key, alternatives=Alternatives.parse(…))
    if job.rivals:
        job = await winner(system, job)
    result = await lifecycle.wait(system, job)

Whoever comes after a crash does the same: nothing is stored but the jobs and the claim.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from firecrest_core import errors
from firecrest_core.api.backoff import delays, retry_transient
from firecrest_core.api.client import System
from firecrest_core.claims.claim import CACHED, CANCELLED
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.claims.owner import other_job
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.jobs.status import JobStatus
from firecrest_core.result import JobResult
from firecrest_core.states import Phase
from firecrest_core.watch.subscriptions import now
from firecrest_core.watch.tracker import OnMessage, OnStatus
from firecrest_core.watch.watcher import JobWatcher

log = logging.getLogger(__name__)

# Seconds after which a job whose answer was lost is listed.
_LISTED = 60.0


async def winner(
    system: System,
    job: Job,
    *,
    poll_interval: float = 10.0,
    timeout: float | None = None,
    on_message: OnMessage | None = None,
    on_warning: OnMessage | None = None,
    on_status: OnStatus | None = None,
    fail_if_stuck: bool = False,
) -> Job:
    """Wait until one of a job and its rivals has begun, and cancel the others.

    An alternative that can never start, or that somebody cancels, keeps none of the others from running. This costs
    what a wait for each costs, a listing of files at the beginning and when one begins, a list of jobs then, and a
    DELETE for each of the others.

    :param system: where they are
    :param job: one of them, with the others as its ``rivals``
    :param poll_interval: longest time between two status queries, in seconds; a young job is queried more often
    :param timeout: seconds after which to stop waiting, though not before the first answer; no job is cancelled
    :param on_message: gets a line for each change of each job, and one that says which of them runs; the log unless
        given
    :param on_warning: gets a line for what keeps one of them from starting; ``on_message`` unless given
    :param on_status: gets each status of ``job`` itself while it waits
    :param fail_if_stuck: raise an error when none of them can ever start
    :returns: the job that runs or ran, without rivals. If none ran, it is one that has ended.
    :raises WaitTimedOut: after ``timeout``
    :raises JobNotFound: the scheduler knows none of them after a minute
    :raises JobStuck: none of them can ever start; only with ``fail_if_stuck``
    """
    assert job.key is not None, "only jobs with a claim have rivals"
    if job.is_ours:
        system.client.trust_url()
    race = _Race(
        system,
        job,
        ClaimDirectory(system, job.working_dir, job.key.identity),
        poll_interval=poll_interval,
        timeout=timeout,
        on_message=on_message or log.info,
        on_warning=on_warning or on_message or log.warning,
        on_status=on_status,
        fail_if_stuck=fail_if_stuck,
    )
    return await race.run(job.key)


@dataclass
class _Runner:
    """One of the jobs, and what is known of it.

    :param status: the last one before its end
    :param partition: where it was seen; Slurm may not say it of a job that has just begun
    :param result: how it ended
    :param error: why nobody waits for it any more
    :param stuck: why it can never start
    """

    job: Job
    status: JobStatus | None = None
    partition: str = ""
    result: JobResult | None = None
    error: Exception | None = None
    stuck: errors.JobStuck | None = None

    @property
    def is_out(self) -> bool:
        """Whether it has ended, as far as anybody knows."""
        return self.result is not None or isinstance(self.error, errors.JobNotFound)

    @property
    def has_begun(self) -> bool:
        return self.is_out or (self.status is not None and self.status.state.phase is not Phase.WAITING)


class _Race:
    """The wait for the first of several jobs of one key."""

    def __init__(
        self,
        system: System,
        job: Job,
        claims: ClaimDirectory,
        *,
        poll_interval: float,
        timeout: float | None,
        on_message: OnMessage,
        on_warning: OnMessage,
        on_status: OnStatus | None,
        fail_if_stuck: bool,
    ) -> None:
        self._system, self._job, self._claims = system, job, claims
        self._poll_interval, self._timeout = poll_interval, timeout
        self._on_message, self._on_warning, self._on_status = on_message, on_warning, on_status
        self._fail_if_stuck = fail_if_stuck
        self._watcher = JobWatcher.shared(system.connection, system.name, type(system.client))
        self._runners: dict[str, _Runner] = {}
        self._waits: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    async def run(self, key: ClaimKey) -> Job:
        """Return the job that runs or ran."""
        try:
            return await self._run(key)
        finally:
            for wait in self._waits:
                wait.cancel()
            await asyncio.gather(*self._waits, return_exceptions=True)

    async def _run(self, key: ClaimKey) -> Job:
        pauses: Iterator[float] = iter(())  # nothing has begun, so no claim is expected
        list_at, seen = now() + _LISTED, 0
        self._enter([self._job.job_id, *self._job.rivals])
        while True:
            self._changed.clear()
            found = await retry_transient(self._claims.read, math.inf)
            holder = found.holder(key)
            if holder == CANCELLED or found.has_newer_epoch(key.epoch):
                return replace(self._job, rivals=())  # whoever has done that has cancelled all of them
            if holder is not None:
                return await self._end(key, holder)
            if now() >= list_at:
                list_at = math.inf
                self._enter(await self._live(key))
            if (last := self._last()) is not None:
                return await self._job_of(last.job_id)
            begun = sum(runner.has_begun for runner in self._runners.values())
            if begun != seen:  # what compute nodes write may be seen late
                pauses, seen = delays(CACHED), begun
            await self._until_changed(next(pauses, list_at - now()))

    def _enter(self, job_ids: Iterable[str]) -> None:
        """Begin to wait for jobs, unless that is done."""
        for job_id in job_ids:
            if job_id not in self._runners:
                self._runners[job_id] = runner = _Runner(replace(self._job, job_id=job_id, rivals=()))
                self._waits.append(asyncio.create_task(self._wait(runner)))

    async def _wait(self, runner: _Runner) -> None:
        def on_status(status: JobStatus) -> None:
            is_new = not runner.has_begun
            runner.status, runner.partition = status, status.partition or runner.partition
            if is_new and runner.has_begun:
                self._changed.set()
            if self._on_status is not None and runner.job.job_id == self._job.job_id and not runner.has_begun:
                self._on_status(status)

        try:
            runner.result = await self._watcher.wait(
                runner.job,
                poll_interval=self._poll_interval,
                timeout=self._timeout,
                on_message=self._on_message,
                on_warning=self._on_warning,
                on_status=on_status,
                fail_if_stuck=self._fail_if_stuck and runner.stuck is None,
            )
        except errors.JobStuck as error:  # an administrator may still change what keeps it from starting
            runner.stuck = error
            self._changed.set()
            await self._wait(runner)
        except Exception as error:  # whatever it is, it must end the race and not let it hang
            runner.error = error
        self._changed.set()

    def _last(self) -> Job | None:
        """Return a job that has ended if no other one can begin any more; ``None`` while one can."""
        runners = list(self._runners.values())
        for runner in runners:
            if runner.error is not None and not runner.is_out:
                raise runner.error
        left = [runner for runner in runners if not runner.is_out]
        stuck = [runner.stuck for runner in left if runner.stuck is not None]
        if not left:
            ended = next((runner.job for runner in runners if runner.result is not None), None)
            if ended is None:
                raise next(runner.error for runner in runners if runner.error is not None)
            return ended
        if self._fail_if_stuck and len(stuck) == len(left):
            raise stuck[0]
        return None

    async def _until_changed(self, longest: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(None if longest == math.inf else longest):
                await self._changed.wait()

    async def _live(self, key: ClaimKey) -> list[str]:
        try:
            return (await self._claims.live()).get((key.epoch, key.generation), [])
        except errors.FirecRESTError as error:
            log.debug("The alternatives of %s are not listed: %s", self._job, error)
            return []

    async def _end(self, key: ClaimKey, holder: str) -> Job:
        """Cancel all but the job that holds the claim, and return that one."""
        others = [one for one in dict.fromkeys([*self._runners, *await self._live(key)]) if one != holder]
        try:
            await self._claims.delete(others)
        except errors.FirecRESTError as error:
            log.warning("%s could not be cancelled, and will run nothing: %s", _named(others), error)
        job = await self._job_of(holder)
        partition = self._runners[holder].partition if holder in self._runners else ""
        place = f" in partition {partition}" if partition else ""
        cancelled = f", and {_named(others)} {'is' if len(others) == 1 else 'are'} cancelled" if others else ""
        self._on_message(f"{job} was the first to begin{place}, so it runs{cancelled}.")
        return job

    async def _job_of(self, job_id: str) -> Job:
        if job_id == self._job.job_id:
            return replace(self._job, rivals=())
        return replace(await other_job(self._system, self._job, job_id), submitted_at=self._job.submitted_at)


def _named(job_ids: list[str]) -> str:
    return f"job{'s' if len(job_ids) > 1 else ''} {', '.join(job_ids)}"
