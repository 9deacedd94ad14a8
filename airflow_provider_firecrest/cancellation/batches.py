"""Cancels the jobs of records, those of one connection together.

What concerns a connection as a whole (it was deleted, its login is refused, FirecREST cannot be reached) is tried once
for all of its records, and again after pauses that grow: many refused logins lock an account. The same holds for each
system behind it, and for each record by itself. The log names the first failure and the end: a success, or that it was
given up and what is to be done by hand.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Hashable
from typing import TYPE_CHECKING

from airflow_provider_firecrest.cancel_policy import EndReason
from airflow_provider_firecrest.cancellation.accounts import Account, by_account
from airflow_provider_firecrest.cancellation.cancelled_snapshots import show_cancelled
from airflow_provider_firecrest.cancellation.deletions import Deletions
from airflow_provider_firecrest.cancellation.scan import Row, ScannedRecord
from airflow_provider_firecrest.cancellation.signatures import RecordSignatures
from airflow_provider_firecrest.job_records import describe_jobs
from firecrest_core.pauses import Pauses

if TYPE_CHECKING:
    from firecrest_core.api.client import FirecRESTClient
    from firecrest_core.jobs.job import Job

    Jobs = dict[Job, list[ScannedRecord]]

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 60.0, 3600.0
"""Seconds between attempts at what fails."""

GIVE_UP_AFTER = 7 * 24 * 3600.0
"""Seconds for which a job that cannot be cancelled is tried."""


class Batches:
    """The cancellations that are under way, and those that have failed.

    :param signatures: says which records may be acted upon
    :param deletions: deletes the records whose jobs are settled
    """

    def __init__(self, signatures: RecordSignatures, deletions: Deletions) -> None:
        self._signatures = signatures
        self._deletions = deletions
        self._records = Pauses(FIRST_PAUSE, LONGEST_PAUSE)
        self._accounts = Pauses(FIRST_PAUSE, LONGEST_PAUSE)
        self._systems = Pauses(FIRST_PAUSE, LONGEST_PAUSE)
        self._failing_since: dict[Row, float] = {}
        self._settled: set[Row] = set()
        self._under_way: dict[Account, asyncio.Task[None]] = {}

    def is_settled(self, one: ScannedRecord) -> bool:
        """Tell whether nothing is left to do for a record.

        :param one: the record
        """
        return one.row in self._settled

    async def begin(self, ended: Collection[ScannedRecord]) -> None:
        """Begin to cancel the jobs of records, unless that is under way, settled, or not due yet.

        :param ended: all records whose jobs have to be cancelled
        """
        self._forget_all_but(ended)
        due = [one for one in ended if one.row not in self._settled and self._records.is_due(one.row)]
        if not due:
            return
        for account, some in (await by_account(due)).items():
            if account not in self._under_way and self._accounts.is_due(account):
                self._under_way[account] = asyncio.create_task(self._cancel(account, some))

    async def drain(self) -> None:
        """Wait until all is done that was begun."""
        await asyncio.gather(*self._under_way.values())

    def _forget_all_but(self, ended: Collection[ScannedRecord]) -> None:
        rows = {one.row for one in ended}
        conn_ids = {one.record.firecrest_conn_id for one in ended}
        self._settled &= rows
        self._failing_since = {row: since for row, since in self._failing_since.items() if row in rows}
        self._records.keep(rows.__contains__)
        self._accounts.keep(lambda account: isinstance(account, Account) and account.conn_id in conn_ids)
        self._systems.keep(lambda place: isinstance(place, tuple) and place[0].conn_id in conn_ids)

    async def _cancel(self, account: Account, some: list[ScannedRecord]) -> None:
        from firecrest_core.api.client import FirecRESTClient

        try:
            connection = await account.load()
            approved = []
            for one in some:
                if self._signatures.approve(one, connection):
                    approved.append(one)
                else:  # said by what approves of it
                    self._records.failed(one.row)
            # One client and no `ConnectedClient`: the connection was read a moment ago.
            async with FirecRESTClient(connection) as client:
                tried, failed = await self._cancel_approved(account, client, approved)
        except Exception as error:
            self._report(self._accounts, account, some, f"with the connection {account}", error)
            await self._give_up_old(some)
        else:
            if self._accounts.succeeded(account):
                log.info("The connection %s works again.", account)
            await self._settle([one for one in tried if one.row not in {each.row for each in failed}])
            await self._give_up_old(failed)
        finally:
            del self._under_way[account]

    async def _cancel_approved(
        self, account: Account, client: FirecRESTClient, approved: list[ScannedRecord]
    ) -> tuple[list[ScannedRecord], list[ScannedRecord]]:
        """Cancel the jobs of records, system by system; return those that were tried, and those of them that failed."""
        from firecrest_core import errors, lifecycle

        failed: dict[Row, ScannedRecord] = {}
        for name, jobs in _by_system(approved).items():
            here = [one for records in jobs.values() for one in records]
            if not self._systems.is_due((account, name)):
                failed |= {one.row: one for one in here}
                continue
            try:
                problems = await lifecycle.cancel_all(client.system(name), list(jobs))
            except errors.OF_CONNECTION:
                raise
            except errors.FirecRESTError as error:
                self._report(self._systems, (account, name), here, f"on {name}", error)
                failed |= {one.row: one for one in here}
                continue
            if self._systems.succeeded((account, name)):
                log.info("Jobs can be cancelled on %s again.", name)
            for job, problem in problems.items():
                for one in jobs[job]:
                    self._report(self._records, one.row, [one], f"on {name}", problem)
                    failed[one.row] = one
        return approved, list(failed.values())

    def _report(
        self, pauses: Pauses, thing: Hashable, records: list[ScannedRecord], where: str, error: Exception
    ) -> None:
        level = logging.ERROR if pauses.failed(thing) else logging.DEBUG
        others = f"; neither can the jobs of {len(records) - 1} other tasks" if len(records) > 1 else ""
        first = records[0]
        log.log(
            level,
            "%s, but %s cannot be cancelled %s%s: %s It is tried again for a week, ever more seldom.",
            first,
            describe_jobs(first.record.jobs),
            where,
            others,
            _sentence(error),
        )

    async def _settle(self, cancelled: list[ScannedRecord]) -> None:
        for one in cancelled:
            log.info("%s: cancelled %s.", one, describe_jobs(one.record.jobs))
            self._settled.add(one.row)
        await show_cancelled(one for one in cancelled if one.reason is EndReason.FINISHED)
        # The new try of a cleared task must know what to wait for: a job that is cancelled may run on for a while.
        await self._deletions.delete(one for one in cancelled if one.reason is not EndReason.CLEARED)

    async def _give_up_old(self, failed: list[ScannedRecord]) -> None:
        now = time.monotonic()
        for one in failed:
            self._failing_since.setdefault(one.row, now)
        old = [one for one in failed if now - self._failing_since[one.row] >= GIVE_UP_AFTER]
        if not old:
            return
        log.error(
            "The jobs of %d tasks could not be cancelled for a week, and are given up: %s. Cancel by hand what still "
            "runs: %s.",
            len(old),
            ", ".join(one.task for one in old),
            _by_hand(old),
        )
        self._settled |= {one.row for one in old}
        await self._deletions.delete(old)


def _by_system(records: list[ScannedRecord]) -> dict[str, Jobs]:
    from firecrest_core.jobs.job import Job

    found: defaultdict[str, Jobs] = defaultdict(dict)
    for one in records:
        for job in map(Job.from_dict, one.record.jobs):
            found[job.system].setdefault(job, []).append(one)
    return found


def _by_hand(records: list[ScannedRecord]) -> str:
    commands = []
    for system, jobs in _by_system(records).items():
        if ids := [job.job_id for job in jobs if job.job_id]:
            commands.append(f"`scancel {' '.join(ids)}` on {system}")
        # The answer to a submission was lost; the job's name shows whose it is.
        names = [job.key.job_name("") for job in jobs if not job.job_id and job.key]
        if names:
            commands.append(f"on {system}, jobs whose names end in {', '.join(names)}")
    return "; ".join(commands)


def _sentence(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."
