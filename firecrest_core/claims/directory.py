"""The claims of a task on the cluster, and its jobs in the queue, as the API sees and changes them."""

from __future__ import annotations

import math
from asyncio import sleep
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from firecrest_core import errors
from firecrest_core.api.backoff import FIRST_CONTACT_LIMIT, delays, retry_transient
from firecrest_core.api.client import System
from firecrest_core.claims.claim import CANCELLED, Claims
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, claims_home, fingerprint, read_job_name
from firecrest_core.jobs.status import read_status
from firecrest_core.jobs.submission import check_working_dir

# Each lost race for a claim means that somebody began a generation meanwhile.
_RACES = 20


@dataclass(frozen=True)
class ClaimDirectory:
    """The claims of one task on one system, and its jobs in the queue."""

    system: System
    working_dir: str
    identity: str

    async def read(self) -> Claims:
        try:
            entries = await self.system.list_files(claims_home(self.working_dir, self.identity), recursive=True)
        except errors.RemotePathNotFound:
            entries = []
        return Claims.read(entries)

    async def take(self, key: ClaimKey, holder: str) -> bool:
        """Take a claim from outside; ``False`` where there is one, which may be this very call's lost answer.

        :raises RemotePathNotFound: the working directory does not exist
        """
        directory = key.directory(self.working_dir)
        for made in (False, True):
            try:
                await self.system.symlink(f"{directory}/{holder}", f"{directory}/claim")
                return True
            except errors.RemotePathExists:
                return False
            except errors.RemotePathNotFound:
                if made:
                    raise
            await check_working_dir(self.system, self.working_dir)
            await self.system.make_directory(directory)
        raise AssertionError("the second round returns or raises")

    async def withdraw(self, epoch: int) -> Claims:
        """Take the claim that no job has yet for nobody.

        :returns: the claims, among them all that jobs of the epoch will ever have
        """
        pauses = delays(FIRST_CONTACT_LIMIT)
        for _ in range(_RACES):
            seen = await retry_transient(self.read)
            latest = ClaimKey(self.identity, epoch, max(0, seen.latest(epoch)))
            if seen.holder(latest) == CANCELLED:
                return seen
            unclaimed = latest if seen.holder(latest) is None else latest.next_generation()
            if await retry_transient(partial(self.take, unclaimed, CANCELLED)):
                return seen
            await sleep(next(pauses, 30.0))
        raise errors.ServerFault(
            f"{claims_home(self.working_dir, self.identity)} on {self.system}: each claim was taken before it could be "
            "cancelled. Cancel again."
        )

    async def end_older(self, key: ClaimKey) -> None:
        """Cancel what is left of older epochs, and wait until it has ended."""
        # First the directory, then the question for claims: the prologue does it the other way round, so either the
        # job sees that its epoch is over, or its claim is seen here.
        # A working directory that is gone holds no claims, and no job can make one there.
        if await retry_transient(partial(self.system.has_directory, self.working_dir)):
            await retry_transient(partial(self.system.make_directory, key.directory(self.working_dir)))
        seen = await retry_transient(self.read)
        begun = seen.jobs(epoch for epoch in seen.epochs if epoch < key.epoch)
        live = await retry_transient(self.live)
        seen_alive = [job_id for (epoch, _), job_ids in live.items() if epoch < key.epoch for job_id in job_ids]
        older = list(dict.fromkeys([*begun, *seen_alive]))  # the second may run in another working directory
        await self.delete(older)
        for job_id in older:
            await wait_until_gone(self.system, job_id)

    async def live(self) -> dict[tuple[int, int], list[str]]:
        """(epoch, generation) → the ids of its jobs that have not ended, the lowest first, as far as they are seen.

        The list is not filtered by the server: the user's part of the name may have changed between two tries.
        """
        found: dict[tuple[int, int], set[str]] = {}
        for row in await self.system.get_jobs():
            name = read_job_name(row.name)
            if name is not None and name[0] == fingerprint(self.identity) and not row.state.ended:
                found.setdefault(name[1:], set()).add(row.of_job)  # a running element of an array has an id of its own
        return {key: sorted(ids, key=lambda job_id: (len(job_id), job_id)) for key, ids in found.items()}

    async def delete(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            await retry_transient(partial(self.system.cancel_job, job_id))


async def wait_until_gone(system: System, job_id: str) -> None:
    """Wait for the end of a job that has been cancelled."""
    job = Job(system=system.name, job_id=job_id)
    while True:
        try:
            ended = (await retry_transient(partial(read_status, system, job), math.inf)).all_ended
        except errors.JobNotFound:  # too young for accounting, or forgotten long since
            ended = True
        # Only the scheduler itself knows what is alive: an element whose row is late, a job that is queued again.
        if ended and not await retry_transient(partial(system.cancel_job, job_id), math.inf):
            return
        await sleep(2.0)
