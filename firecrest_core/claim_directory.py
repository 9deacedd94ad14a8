"""The claims of a task on the cluster, and its jobs in the queue, as the API sees and changes them."""

from __future__ import annotations

import math
from asyncio import sleep
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from firecrest_core import claim, errors, submission
from firecrest_core.claim import CANCELLED, Claims, Key
from firecrest_core.client import FirecRESTClient
from firecrest_core.job import Job
from firecrest_core.outage import PATIENCE, delays, persist
from firecrest_core.watcher import status

# Each lost race for a claim means that somebody began a generation meanwhile.
_RACES = 20


@dataclass(frozen=True)
class ClaimDirectory:
    """The claims of one task on one system, and its jobs in the queue."""

    client: FirecRESTClient
    system: str
    working_dir: str
    identity: str

    async def read(self) -> Claims:
        try:
            entries = await self.client.ls(self.system, claim.home(self.working_dir, self.identity), recursive=True)
        except errors.RemotePathNotFound:
            entries = []
        return Claims.read(entries)

    async def take(self, key: Key, holder: str) -> bool:
        """Take a claim from outside; ``False`` where there is one, which may be this very call's lost answer.

        :raises RemotePathNotFound: the working directory does not exist
        """
        directory = key.directory(self.working_dir)
        for made in (False, True):
            try:
                await self.client.make_link(self.system, f"{directory}/{holder}", f"{directory}/claim")
                return True
            except errors.RemotePathExists:
                return False
            except errors.RemotePathNotFound:
                if made:
                    raise
            await submission.check_working_dir(self.client, self.system, self.working_dir)
            await self.client.make_directory(self.system, directory)
        raise AssertionError("the second round returns or raises")

    async def withdraw(self, epoch: int) -> Claims:
        """Take the claim that no job has yet for nobody.

        :returns: the claims, among them all that jobs of the epoch will ever have
        """
        pauses = delays(PATIENCE)
        for _ in range(_RACES):
            seen = await persist(self.read)
            latest = Key(self.identity, epoch, max(0, seen.latest(epoch)))
            if seen.holder(latest) == CANCELLED:
                return seen
            unclaimed = latest if seen.holder(latest) is None else latest.next_generation()
            if await persist(partial(self.take, unclaimed, CANCELLED)):
                return seen
            await sleep(next(pauses, 30.0))
        raise errors.ServerFault(
            f"{claim.home(self.working_dir, self.identity)} on {self.system}: each claim was taken before it could be "
            "cancelled. Cancel again."
        )

    async def end_older(self, key: Key) -> None:
        """Cancel what is left of older epochs, and wait until it has ended."""
        # First the directory, then the question for claims: the prologue does it the other way round, so either the
        # job sees that its epoch is over, or its claim is seen here.
        # A working directory that is gone holds no claims, and no job can make one there.
        if await persist(partial(self.client.has_directory, self.system, self.working_dir)):
            await persist(partial(self.client.make_directory, self.system, key.directory(self.working_dir)))
        seen = await persist(self.read)
        begun = seen.jobs(epoch for epoch in seen.epochs if epoch < key.epoch)
        live = await persist(self.live)
        seen_alive = [job_id for (epoch, _), job_ids in live.items() if epoch < key.epoch for job_id in job_ids]
        older = list(dict.fromkeys([*begun, *seen_alive]))  # the second may run in another working directory
        await self.delete(older)
        for job_id in older:
            await until_ended(self.client, Job(system=self.system, job_id=job_id))

    async def live(self) -> dict[tuple[int, int], list[str]]:
        """(epoch, generation) → the ids of its jobs that have not ended, the lowest first, as far as they are seen.

        The list is not filtered by the server: the user's part of the name may have changed between two tries.
        """
        found: dict[tuple[int, int], set[str]] = {}
        for row in await self.client.get_jobs(self.system):
            name = claim.read_name(row.name)
            if name is not None and name[0] == claim.fingerprint(self.identity) and not row.state.ended:
                found.setdefault(name[1:], set()).add(row.of_job)  # a running element of an array has an id of its own
        return {key: sorted(ids, key=lambda job_id: (len(job_id), job_id)) for key, ids in found.items()}

    async def delete(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            await persist(partial(self.client.cancel, self.system, job_id))


async def until_ended(client: FirecRESTClient, job: Job) -> None:
    """Wait for the end of a job that has been deleted."""
    while True:
        try:
            settled = (await persist(partial(status, client, job), math.inf)).settled
        except errors.JobNotFound:  # too young for accounting, or forgotten long since
            settled = True
        # Only the scheduler itself knows what is alive: an element whose row is late, a job that is queued again.
        if settled and not await persist(partial(client.cancel, job.system, job.job_id), math.inf):
            return
        await sleep(2.0)
