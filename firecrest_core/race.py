"""A race: the alternatives of one job wait in several queues, and the first that begins runs.

All of them are submitted for one key, so the claim lets exactly one run its payload, whoever waits and whatever dies.
What is here makes the wait short: it asks for all of them at once, and as soon as one has begun, the claim says which
one runs, and the others are cancelled. That is used like this::

    job = await lifecycle.submit(system, spec, key, alternatives=Alternatives.parse(…))
    if job.races:
        job = await winner(system, job)
    result = await lifecycle.wait(system, job)

Whoever comes after a crash does the same: nothing is stored but the jobs and the claim.

Alternatives at another place wait there, once they have begun, until somebody who sees that lets the claim at home name
the place, and opens their gate: see :mod:`firecrest_core.claims.admission`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from firecrest_core import errors
from firecrest_core.api.backoff import RetryBudget, delays, retry_transient
from firecrest_core.api.client import System
from firecrest_core.claims.admission import admit, choose
from firecrest_core.claims.claim import CACHED, CANCELLED, Claims
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.claims.owner import other_job
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.jobs.status import JobStatus
from firecrest_core.result import JobResult
from firecrest_core.spec.place import Place
from firecrest_core.states import Phase
from firecrest_core.watch.subscriptions import now
from firecrest_core.watch.tracker import OnMessage, OnStatus
from firecrest_core.watch.watcher import JobWatcher

log = logging.getLogger(__name__)

# Seconds after which a job whose answer was lost is listed.
_LISTED = 60.0
# Longest time in seconds between two status queries for a job that waits at a gate once it has begun.
_AT_GATE = 15.0
# Seconds for which a place may be out of reach until its jobs are left in the queue there.
_LONGEST_OUTAGE = 60.0
# Seconds after which a link that was made here is listed, as a rule.
_SEEN = 1.0


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
    DELETE for each of the others. Each other place costs a few listings and links more.

    :param system: a system of the client that asks
    :param job: one of them, with the others as its ``rivals`` and those ``elsewhere``
    :param poll_interval: longest time between two status queries, in seconds; a young job is queried more often
    :param timeout: seconds after which to stop waiting, though not before the first answer; no job is cancelled
    :param on_message: gets a line for each change of each job, and one that says which of them runs; the log unless
        given
    :param on_warning: gets a line for what keeps one of them from starting; ``on_message`` unless given
    :param on_status: gets each status of ``job`` itself while it waits
    :param fail_if_stuck: raise an error when none of them can ever start
    :returns: the job that runs or ran, without rivals. If none ran, it is one that has ended. Of a race across file
        systems, its ``system`` and ``working_dir`` are those of the place where it runs.
    :raises WaitTimedOut: after ``timeout``
    :raises JobNotFound: the scheduler knows none of them after a minute
    :raises JobStuck: none of them can ever start; only with ``fail_if_stuck``
    """
    assert job.key is not None, "only jobs with a claim have rivals"
    if job.is_ours:
        system.client.trust_url()
    key, began = job.key, now()
    home = ClaimDirectory(system.client.system(job.origin.system), job.origin.working_dir, key.identity)
    while True:
        # Where several jobs wait at the place that the first race has found, these race there.
        claims = home if job.elsewhere else home.at(Place(job.system, job.working_dir))
        race = _Race(
            claims,
            job,
            poll_interval=poll_interval,
            timeout=None if timeout is None else max(0.0, timeout - (now() - began)),
            on_message=on_message or log.info,
            on_warning=on_warning or on_message or log.warning,
            on_status=on_status,
            fail_if_stuck=fail_if_stuck,
        )
        job = await race.run(key)
        if not job.races:
            return job


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
        claims: ClaimDirectory,
        job: Job,
        *,
        poll_interval: float,
        timeout: float | None,
        on_message: OnMessage,
        on_warning: OnMessage,
        on_status: OnStatus | None,
        fail_if_stuck: bool,
    ) -> None:
        self._system, self._job, self._claims = claims.system, job, claims
        self._poll_interval, self._timeout = poll_interval, timeout
        self._on_message, self._on_warning, self._on_status = on_message, on_warning, on_status
        self._fail_if_stuck = fail_if_stuck
        self._runners: dict[tuple[Place, str], _Runner] = {}
        self._judged: set[Place] = set()
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
        own = [self._job.job_id] if _place(self._job) == self._home else []
        self._enter([*self._at(self._home, [*own, *self._job.rivals]), *self._job.elsewhere])
        while True:
            self._changed.clear()
            found = await retry_transient(self._claims.read, math.inf)
            holder = found.holder(key)
            if holder == CANCELLED or found.has_newer_epoch(key.epoch):
                # Whoever has done that has cancelled all of them, but for what was submitted elsewhere meanwhile.
                await self._cancel_elsewhere(key, found)
                return replace(self._job, rivals=(), elsewhere=())
            if (place := found.place(key)) is not None:
                return await self._go_to(place, key, found)
            if holder is not None:
                return await self._end(key, holder, found)
            if now() >= list_at:
                list_at = math.inf
                self._enter(self._at(self._home, await self._live(self._claims, key)))
                for place in found.places_of(key).values():
                    self._enter(self._at(place, await self._live(self._claims.at(place), key)))
            if await self._has_chosen(key):
                continue
            if (last := self._last()) is not None:
                if (place := _place(last)) == self._home:
                    return await self._job_of(last)
                await retry_transient(partial(self._claims.take, key, place.name), math.inf)
                await self._until_changed(_SEEN)
                continue
            begun = sum(runner.has_begun for runner in self._runners.values())
            if begun != seen:  # what compute nodes write may be seen late
                pauses, seen = delays(CACHED), begun
            await self._until_changed(next(pauses, list_at - now()))

    @property
    def _home(self) -> Place:
        return Place(self._system.name, self._claims.working_dir)

    def _at(self, place: Place, job_ids: Iterable[str]) -> list[Job]:
        job = self._job
        if _place(job) != place:
            job = replace(job, system=place.system, working_dir=place.working_dir, stdout=None, stderr=None)
        return [replace(job, job_id=job_id, rivals=(), elsewhere=()) for job_id in job_ids]

    def _enter(self, jobs: Iterable[Job]) -> None:
        """Begin to wait for jobs, unless that is done."""
        for job in jobs:
            if (known := (_place(job), job.job_id)) not in self._runners:
                self._runners[known] = runner = _Runner(job)
                self._waits.append(asyncio.create_task(self._wait(runner)))

    async def _has_chosen(self, key: ClaimKey) -> bool:
        """Let the claim at home name a place where a job has begun; tell whether it names a job or a place by now."""
        for runner in list(self._runners.values()):
            place = _place(runner.job)
            if runner.is_out or not runner.has_begun or place == self._home or place in self._judged:
                continue
            self._judged.add(place)
            if await choose(self._claims, key, place):
                return True
            self._on_message(f"{runner.job} on {place.system} ends, because nobody has let it begin for too long.")
            await self._delete((job_id for (where, job_id) in self._runners if where == place), place)
        return False

    async def _go_to(self, place: Place, key: ClaimKey, found: Claims) -> Job:
        """Let the jobs of a place begin, cancel all others, and return those."""
        is_open = await admit(self._claims, key, place)
        there = await self._live(self._claims.at(place), key)
        self._enter(self._at(place, there))
        runners = [runner for (where, _), runner in self._runners.items() if where == place]
        runners.sort(key=lambda one: one.is_out or not one.has_begun)  # the first to begin comes first
        others = [job_id for (where, job_id) in self._runners if where == self._home]
        await self._delete([*others, *await self._live(self._claims, key)], self._home)
        await self._cancel_elsewhere(key, found, but=place if is_open else None)
        await self._claims.remove_secrets(found, lambda *of: of == (key.epoch, key.generation))
        job = runners[0].job if runners else replace(self._job, rivals=(), elsewhere=())
        if job.stdout is None and job.stderr is None:  # it was found in the list of jobs
            job = await other_job(self._claims.at(_place(job)).system, job, job.job_id)
        if not is_open:
            self._on_message(f"{job} on {place.system} has run nothing: nobody has let it begin in time.")
            return job
        self._on_message(
            f"{job} on {place.system} was the first to begin, so it runs, and those at other places are cancelled."
        )
        return replace(job, rivals=tuple(runner.job.job_id for runner in runners[1:] if not runner.is_out))

    async def _cancel_elsewhere(self, key: ClaimKey, found: Claims, but: Place | None = None) -> None:
        claims = replace(self._claims, retry=RetryBudget(_LONGEST_OUTAGE))  # what runs is not to wait for long
        try:
            await claims.end_elsewhere(found, lambda *of: of == (key.epoch, key.generation), but=but)
        except errors.FirecRESTError as error:
            log.warning("Jobs at another place could not be cancelled, and will run nothing: %s", error)

    async def _wait(self, runner: _Runner) -> None:
        def on_status(status: JobStatus) -> None:
            is_new = not runner.has_begun
            runner.status, runner.partition = status, status.partition or runner.partition
            if is_new and runner.has_begun:
                self._changed.set()
            is_own = runner.job == replace(self._job, rivals=(), elsewhere=())
            if self._on_status is not None and is_own and not runner.has_begun:
                self._on_status(status)

        try:
            watcher = JobWatcher.shared(self._system.connection, runner.job.system, type(self._system.client))
            runner.result = await watcher.wait(
                runner.job,
                poll_interval=min(self._poll_interval, math.inf if _place(runner.job) == self._home else _AT_GATE),
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

    async def _live(self, claims: ClaimDirectory, key: ClaimKey) -> list[str]:
        try:
            return (await claims.live()).get((key.epoch, key.generation), [])
        except errors.FirecRESTError as error:
            log.debug("The alternatives of %s are not listed: %s", self._job, error)
            return []

    async def _delete(self, job_ids: Iterable[str], place: Place) -> None:
        others = list(dict.fromkeys(job_ids))
        try:
            await self._claims.at(place).delete(others)
        except errors.FirecRESTError as error:
            log.warning("%s could not be cancelled, and will run nothing: %s", _named(others), error)

    async def _end(self, key: ClaimKey, holder: str, found: Claims) -> Job:
        """Cancel all but the job that holds the claim, and return that one."""
        entered = [job_id for (place, job_id) in self._runners if place == self._home]
        others = [one for one in dict.fromkeys([*entered, *await self._live(self._claims, key)]) if one != holder]
        await self._delete(others, self._home)
        await self._cancel_elsewhere(key, found)
        runner = self._runners.get((self._home, holder))
        job = await self._job_of(self._at(self._home, [holder])[0])
        elsewhere = [f"job {job_id} on {place.system}" for (place, job_id) in self._runners if place != self._home]
        named = [*([_named(others)] if others else []), *elsewhere]
        where = f" in partition {runner.partition}" if runner and runner.partition else ""
        cancelled = f", and {', '.join(named)} {'is' if len(others) + len(elsewhere) == 1 else 'are'} cancelled"
        self._on_message(f"{job} was the first to begin{where}, so it runs{cancelled if named else ''}.")
        return job

    async def _job_of(self, job: Job) -> Job:
        if (job.system, job.job_id) == (self._job.system, self._job.job_id):
            return job
        return replace(await other_job(self._system, job, job.job_id), submitted_at=self._job.submitted_at)


def _place(job: Job) -> Place:
    return Place(job.system, job.working_dir)


def _named(job_ids: list[str]) -> str:
    return f"job{'s' if len(job_ids) > 1 else ''} {', '.join(job_ids)}"
