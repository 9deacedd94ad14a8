"""The requests that read and change the claims of a task on the cluster, and its jobs in the queue."""

from __future__ import annotations

import logging
import math
from asyncio import sleep
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from firecrest_core import errors
from firecrest_core.api.backoff import FIRST_CONTACT_LIMIT, delays, retry_transient
from firecrest_core.api.client import System
from firecrest_core.api.models import JobInfo
from firecrest_core.claims.claim import CANCELLED, Claims
from firecrest_core.claims.secret_file import remove_quietly
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, claims_home, fingerprint, is_ahead, read_job_name
from firecrest_core.jobs.status import read_status
from firecrest_core.jobs.submission import check_working_dir
from firecrest_core.spec.place import Place
from firecrest_core.usage import LARGEST_USAGE_FILE, USAGE_FILE, JobUsage, parse_usage

log = logging.getLogger(__name__)

# Seconds for which the list of jobs may fail until the caller goes on without it.
LONGEST_WITHOUT_LIST = 60.0

# How often to try again after a lost race for a claim. Each one means that another caller has begun a generation.
_RACES = 20


T = TypeVar("T")


class Retry(Protocol):
    """Repeats a request until it succeeds, as :func:`~firecrest_core.api.backoff.retry_transient` does."""

    async def __call__(self, request: Callable[[], Awaitable[T]], /) -> T:
        """Send a request that is safe to repeat."""


@dataclass(frozen=True)
class ClaimDirectory:
    """The claims of one task on one system, and its jobs in the queue.

    :param system: the system
    :param working_dir: absolute path of the jobs' working directory
    :param identity: the task's identity
    :param retry: repeats a request of :meth:`close` in an outage, for a limited time
    :param elsewhere: the place, if it is another one than the home of a race across file systems
    """

    system: System
    working_dir: str
    identity: str
    retry: Retry = retry_transient
    elsewhere: Place | None = None

    async def read(self) -> Claims:
        """Read the claims; there are none if the directory does not exist."""
        try:
            entries = await self.system.list_files(claims_home(self.working_dir, self.identity), recursive=True)
        except errors.RemotePathNotFound:
            entries = []
        return Claims.read(entries)

    async def take(self, key: ClaimKey, holder: str) -> bool:
        """Take a claim from outside.

        :param key: the key of the claim
        :param holder: ``job-57`` for a job, or :data:`~firecrest_core.claims.claim.CANCELLED`
        :returns: ``False`` if the claim was taken before. An earlier attempt of this call, whose answer was lost, may
            have done that.
        :raises RemotePathNotFound: the working directory does not exist
        """
        return await self.link(key, "claim", holder)

    async def link(self, key: ClaimKey, name: str, target: str) -> bool:
        """Make a link in a key's directory, unless it is there.

        :param key: the key
        :param name: of the link
        :param target: of the link, as the name of a file
        :returns: ``False`` if it is there, as for :meth:`take`
        :raises RemotePathNotFound: the working directory does not exist
        """
        directory = key.directory(self.working_dir)
        for directory_made in (False, True):
            try:
                await self.system.symlink(f"{directory}/{target}", f"{directory}/{name}")
                return True
            except errors.RemotePathExists:
                return False
            except errors.RemotePathNotFound:
                if directory_made:
                    raise
            await check_working_dir(self.system, self.working_dir)
            await self.system.make_directory(directory)
        raise AssertionError("the second round returns or raises")

    async def note_cause(self, key: ClaimKey, cause: str) -> None:
        """Write down why another generation follows that of a key, unless that was done.

        :param key: the key of a generation whose job has ended
        :param cause: why, as the name of a file
        """
        directory = key.directory(self.working_dir)
        with suppress(errors.RemotePathExists):
            await self.system.symlink(f"{directory}/{cause}", f"{directory}/cause")

    async def withdraw(self, epoch: int) -> Claims:
        """Take the next free claim of an epoch as cancelled, so that no further job of the epoch can run.

        :param epoch: the epoch
        :returns: the claims; no job of the epoch gets another one
        """
        pauses = delays(FIRST_CONTACT_LIMIT)
        for _ in range(_RACES):
            claims = await self.retry(self.read)
            latest = ClaimKey(self.identity, epoch, max(0, claims.latest(epoch)))
            if claims.holder(latest) == CANCELLED:
                return claims
            unclaimed = latest if claims.holder(latest) is None else latest.next_generation()
            if await self.retry(partial(self.take, unclaimed, CANCELLED)):
                return claims
            await sleep(next(pauses, 30.0))
        raise errors.ServerFault(
            f"{claims_home(self.working_dir, self.identity)} on {self.system}: each claim was taken before it could be "
            "cancelled. Cancel again."
        )

    async def close(self, epoch: int) -> tuple[list[str], errors.FirecRESTError | None]:
        """Let no further job of an epoch run, even if it is not in the queue yet.

        :param epoch: the epoch
        :returns: the jobs that hold its claims, and what has kept it from being closed, if anything
        """
        try:
            claims = await self.withdraw(epoch)
            await self.remove_secrets(claims, lambda one, _: one == epoch)
            await self.end_elsewhere(claims, lambda one, _: one == epoch)
            return claims.jobs([epoch]), None
        except errors.RemotePathNotFound:
            log.debug("%s does not exist: no job of %s can claim anything there.", self.working_dir, self.identity)
            return [], None
        except errors.FirecRESTError as error:  # a full disk must not prevent cancelling the job that fills it
            try:
                return (await self.read()).jobs([epoch]), error
            except errors.FirecRESTError:
                return [], error

    async def end_older(self, key: ClaimKey) -> None:
        """Cancel the jobs of older epochs, and wait until they have ended.

        :param key: a key of the current epoch
        """
        # Make the epoch's directory first, and read the claims second. The prologue does it the other way round. So
        # either the job finds that its epoch is over, or its claim is found here.
        # A working directory that is gone holds no claims, and no job can make one there.
        if await retry_transient(partial(self.system.has_directory, self.working_dir)):
            await retry_transient(partial(self.system.make_directory, key.directory(self.working_dir)))
        claims = await retry_transient(self.read)
        holders = claims.jobs(epoch for epoch in claims.epochs if epoch < key.epoch)
        live = await retry_transient(self.live)
        queued = [job_id for (epoch, _), job_ids in live.items() if epoch < key.epoch for job_id in job_ids]
        older = list(dict.fromkeys([*holders, *queued]))  # queued jobs may have another working directory
        await self.delete(older)
        for job_id in older:
            await wait_until_gone(self.system, job_id)
        await self.remove_secrets(claims, lambda epoch, _: epoch < key.epoch)
        for job in await self.end_elsewhere(claims, lambda epoch, _: epoch < key.epoch):
            await wait_until_gone(self.system.client.system(job.system), job.job_id)

    def at(self, place: Place) -> ClaimDirectory:
        """Return the claims of the same task at another place.

        :param place: one of those in the directory
        """
        if place == Place(self.system.name, self.working_dir):
            return self
        system = self.system.client.system(place.system)
        return replace(self, system=system, working_dir=place.working_dir, elsewhere=place)

    async def end_elsewhere(
        self, claims: Claims, over: Callable[[int, int], bool], *, but: Place | None = None
    ) -> list[Job]:
        """Let no further job run at the other places of a race, and cancel those that are there.

        Each place is tried, and the first error is raised at the end.

        :param claims: what was read here, with the places in it
        :param over: tells of an epoch and a generation whether its jobs end
        :param but: the place whose jobs go on
        :returns: the jobs that were cancelled, also those that had ended
        """
        keys: dict[Place, list[ClaimKey]] = {}
        for of, places in claims.places.items():
            for place in places.values():
                if over(*of) and place != but:
                    keys.setdefault(place, []).append(ClaimKey(self.identity, *of))
        jobs: list[Job] = []
        problem: errors.FirecRESTError | None = None
        for place, some in keys.items():
            there = self.at(place)
            try:
                with suppress(errors.RemotePathNotFound):  # no job can claim anything there
                    for key in some:
                        await self.retry(partial(there.take, key, CANCELLED))
                found = await self.retry(there.read)
                live = await self.retry(there.live)
                ids: dict[str, None] = {}
                for key in some:
                    ids |= dict.fromkeys([found.holder(key) or CANCELLED, *live.get((key.epoch, key.generation), ())])
                ids.pop(CANCELLED, None)
                for job_id in ids:
                    await self.retry(partial(there.system.cancel_job, job_id))
                jobs += [Job(system=place.system, job_id=job_id) for job_id in ids]
                await there.remove_secrets(found, over)
            except errors.FirecRESTError as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return jobs

    async def remove_secrets(self, claims: Claims, over: Callable[[int, int], bool]) -> None:
        """Remove files with secrets that no job will read any more. A failure is no error: they go with the claims.

        :param claims: what was read, with the files in it
        :param over: tells of an epoch and a generation whether its files go
        """
        for epoch, generation, name in claims.secret_files:
            if over(epoch, generation):
                directory = ClaimKey(self.identity, epoch, generation).directory(self.working_dir)
                await remove_quietly(self.system, f"{directory}/{name}")

    async def usage(self, claims: Claims, key: ClaimKey) -> JobUsage | None:
        """Return what the job that holds a claim has used; a failure is no error. Without its file, nothing is asked.

        :param claims: what was read
        :param key: the key of the claim
        """
        if (key.epoch, key.generation) not in claims.measured:
            return None
        path = f"{key.directory(self.working_dir)}/{USAGE_FILE}"
        try:
            return parse_usage(await self.system.download_small(path, most=LARGEST_USAGE_FILE))
        except errors.FirecRESTError as error:
            log.debug("What %s has used is not known: %s", key.identity, error)
            return None

    async def live(self) -> dict[tuple[int, int], list[str]]:
        """Return the task's jobs in the list of jobs that have not ended.

        The server does not filter the list, because the user's part of the name may have changed between two attempts.

        Where the list alone fails, for example because it is too long, none is found after a minute. Whoever goes on
        without it leaves jobs in the queue that end without running anything, because the claim or a newer epoch stops
        them.

        :returns: (epoch, generation) → job ids, the lowest first
        """
        found: dict[tuple[int, int], list[JobInfo]] = {}
        for row in await self._jobs():
            name = read_job_name(row.name)
            if name is not None and name[0] == self._fingerprint and not row.state.ended:
                found.setdefault(name[1:], []).append(row)
        return {key: _job_ids(rows) for key, rows in found.items()}

    async def live_of(self, key: ClaimKey) -> tuple[list[str], list[str]]:
        """Return the jobs of a key that :meth:`live` finds: those that claim when they begin, and those ahead.

        :param key: the key
        """
        wanted = (self._fingerprint, key.epoch, key.generation)
        rows = [row for row in await self._jobs() if read_job_name(row.name) == wanted and not row.state.ended]
        plain, ahead = (_job_ids(row for row in rows if is_ahead(row.name) is one) for one in (False, True))
        return plain, ahead

    @property
    def _fingerprint(self) -> str:
        return fingerprint(self.identity, self.elsewhere)

    async def _jobs(self) -> list[JobInfo]:
        pauses = delays(LONGEST_WITHOUT_LIST)
        while True:
            try:
                return await self.system.get_jobs()
            except (errors.ServerFault, errors.RequestTimedOut) as error:
                pause = next(pauses, None)
                if pause is None:
                    await self.read()  # raises if it is not the list alone
                    log.warning("%s: going on without the list of jobs of %s. %s", self.identity, self.system, error)
                    return []
                await sleep(pause)

    async def delete(self, job_ids: Iterable[str]) -> None:
        """Cancel these jobs."""
        for job_id in job_ids:
            await retry_transient(partial(self.system.cancel_job, job_id))


def _job_ids(rows: Iterable[JobInfo]) -> list[str]:
    """Return the ids of the jobs of these rows, the lowest first."""
    # Not row.job_id: each element of an array has its own.
    return sorted({row.of_job for row in rows}, key=lambda job_id: (len(job_id), job_id))


async def wait_until_gone(system: System, job_id: str) -> None:
    """Wait until a cancelled job has ended.

    :param system: where the job is
    :param job_id: its id
    """
    job = Job(system=system.name, job_id=job_id)
    while True:
        try:
            ended = (await retry_transient(partial(read_status, system, job), math.inf)).all_ended
        except errors.JobNotFound:  # too new for the accounting, or purged from it
            ended = True
        # Cancel once more, because only the scheduler itself knows whether the job is alive. The row of an array's
        # element may be late, or the job may have been requeued.
        if ended and not await retry_transient(partial(system.cancel_job, job_id), math.inf):
            return
        await sleep(2.0)
