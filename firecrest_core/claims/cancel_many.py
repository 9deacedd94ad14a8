"""Cancels many jobs of one system together, with few requests and a few of them at a time.

The jobs that are in the queue are deleted first, by one list of jobs: the claims of hundreds of jobs take minutes. The
claims stop the jobs that are not in the list yet. A second list shows what came into the queue meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import TypeVar

from firecrest_core import errors
from firecrest_core.api.backoff import FIRST_CONTACT_LIMIT, RetryBudget, delays
from firecrest_core.api.client import System
from firecrest_core.api.models import JobInfo
from firecrest_core.claims.directory import LONGEST_WITHOUT_LIST, ClaimDirectory
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, fingerprint, read_job_name

log = logging.getLogger(__name__)

T = TypeVar("T")

# Jobs whose claims are in work at the same time. The client's own limit on requests in flight is lower.
_AT_ONCE = 16


async def cancel_many(system: System, jobs: Collection[Job]) -> dict[Job, errors.FirecRESTError]:
    """Cancel jobs, and every job that was or will be submitted for the epochs of their keys.

    It is no error if jobs have ended, were cancelled or never began. This costs two lists of jobs for all, and for each
    job a listing of files, one to four requests for its claim and a DELETE. All retries together end after five
    minutes.

    :param system: where the jobs are
    :param jobs: the jobs; those without a key must have an id
    :returns: those that may still run, with what went wrong
    :raises FirecRESTError: the server cannot be reached, or refuses the login or the list of jobs; some jobs may be
        cancelled all the same
    """
    if any(job.is_ours for job in jobs):
        system.client.trust_url()
    return await _Cancellation(system, jobs).run()


class _Cancellation:
    """One cancellation of many jobs.

    :param system: where they are
    :param jobs: the jobs
    """

    def __init__(self, system: System, jobs: Collection[Job]) -> None:
        self._system = system
        self._unclaimed = [job for job in jobs if job.key is None]
        self._claimed: defaultdict[tuple[str, int], list[Job]] = defaultdict(list)
        for job in jobs:
            if job.key is not None:
                self._claimed[_epoch(job.key)].append(job)
        self._retry = RetryBudget(FIRST_CONTACT_LIMIT)
        self._deleted: set[tuple[str, str]] = set()
        self._problems: dict[Job, errors.FirecRESTError] = {}

    async def run(self) -> dict[Job, errors.FirecRESTError]:
        if self._claimed:
            await self._delete_queued(patience=0.0)
            self._problems.clear()  # the claims decide
        await _each(self._unclaimed, lambda job: self._delete(job.job_id, [job]))
        if self._claimed:
            await _each([each for same in self._claimed.values() for each in same], self._withdraw)
            await self._delete_queued(patience=LONGEST_WITHOUT_LIST)
        return self._problems

    async def _delete_queued(self, patience: float) -> None:
        """Delete the jobs that the list shows alive."""
        found: dict[str, list[Job]] = {}
        for row in await self._retry(partial(self._list, patience)):
            name = read_job_name(row.name)
            if name is not None and not row.state.ended and name[:2] in self._claimed:
                found[row.of_job] = self._claimed[name[:2]]  # not job_id: each element of an array has its own
        await _each(found.items(), lambda one: self._delete(*one))

    async def _list(self, patience: float) -> list[JobInfo]:
        """Return the list of jobs; an empty one where the list alone fails, for example because it is too long.

        The jobs that are left in the queue then end without running anything, because of their claims.
        """
        pauses = delays(patience)
        while True:
            try:
                return await self._system.get_jobs()
            except (errors.ServerFault, errors.RequestTimedOut) as error:
                pause = next(pauses, None)
                if pause is None:
                    log.warning("Cancelling without the list of jobs of %s: %s", self._system, error)
                    return []
                await asyncio.sleep(pause)

    async def _withdraw(self, job: Job) -> None:
        assert job.key is not None
        home = self._system.client.system(job.origin.system)
        claims = ClaimDirectory(home, job.origin.working_dir, job.key.identity, self._retry)
        holders, problem = await claims.close(job.key.epoch)
        if problem is not None:
            self._note([job], problem)
        for job_id in holders:
            await self._delete(job_id, [job], home)

    async def _delete(self, job_id: str, of: Iterable[Job], system: System | None = None) -> None:
        system = system or self._system
        if (system.name, job_id) in self._deleted:
            return
        try:
            await self._retry(partial(system.cancel_job, job_id))
            self._deleted.add((system.name, job_id))
        except errors.FirecRESTError as error:
            self._note(of, error)

    def _note(self, jobs: Iterable[Job], error: errors.FirecRESTError) -> None:
        if isinstance(error, errors.OF_CONNECTION):
            raise error
        for job in jobs:
            self._problems.setdefault(job, error)


def _epoch(key: ClaimKey) -> tuple[str, int]:
    return fingerprint(key.identity), key.epoch


async def _each(items: Iterable[T], act: Callable[[T], Awaitable[None]]) -> None:
    """Act on each item, on a few of them at a time, until one raises an error."""
    remaining = iter(items)

    async def work() -> None:
        for item in remaining:
            await act(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
