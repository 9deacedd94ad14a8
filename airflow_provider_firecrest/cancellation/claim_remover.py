"""Removes the claims of tasks that are over from their working directories.

A task's claim is needed until Airflow's database says how the task ended: a worker that dies before that is followed by
a try which looks for it. So this is not the worker's to do, but the triggerer's, which reads the database anyway.

The task may be cleared at the same moment, and a request may arrive late. The new run must not lose its claim by that.
So the task's identity is forgotten first, in one transaction with the check that the task is still over: a run that
begins after it has an identity, and a directory, of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.cancellation.accounts import Account, by_account
from airflow_provider_firecrest.cancellation.deletions import Deletions
from airflow_provider_firecrest.cancellation.scan import Row, ScannedRecord, identity_key
from airflow_provider_firecrest.cancellation.signatures import RecordSignatures
from firecrest_core.pauses import Pauses

if TYPE_CHECKING:
    from firecrest_core.jobs.job import Job

log = logging.getLogger(__name__)

INTERVAL = 60.0
"""Seconds between two lists of jobs at least."""

# Seconds. The list of jobs shows those that have ended for one day.
_GIVE_UP_AFTER = 24 * 3600.0


@dataclass
class _Waiting:
    """Since when a task is over, and when its claims may be removed, on the monotonic clock."""

    since: float
    due: float


class ClaimRemover:
    """Removes the claims of tasks that are over, in rounds with one list of jobs for each system and connection.

    :param signatures: says which records may be acted upon
    :param deletions: deletes the records whose claims are gone
    """

    def __init__(self, signatures: RecordSignatures, deletions: Deletions) -> None:
        self._signatures = signatures
        self._deletions = deletions
        self._pauses = Pauses(60.0, 3600.0)
        self._waiting: dict[Row, _Waiting] = {}
        self._under_way: asyncio.Task[None] | None = None
        self._next_round = 0.0

    def begin(self, scanned: Iterable[ScannedRecord]) -> None:
        """Begin a round, if one is due.

        :param scanned: all records
        """
        from firecrest_core import lifecycle

        now = time.monotonic()
        over = {one.row: one for one in scanned if one.over}
        # The clock of a worker says nothing here, so time counts from the first scan that shows the task's end.
        self._waiting = {row: self._waiting.get(row) or _Waiting(now, now + lifecycle.SETTLED_AFTER) for row in over}
        due = [one for row, one in over.items() if self._waiting[row].due <= now]
        if due and now >= self._next_round and (self._under_way is None or self._under_way.done()):
            self._next_round = now + INTERVAL
            self._under_way = asyncio.create_task(self._remove(due))

    async def drain(self) -> None:
        """Wait until the round is done that was begun."""
        if self._under_way is not None:
            await self._under_way

    async def _remove(self, due: list[ScannedRecord]) -> None:
        for account, some in (await by_account(due)).items():
            removed: set[Row] = set()
            if self._pauses.is_due(account):
                try:
                    removed = await _remove_claims(self._signatures, account, some)
                    self._pauses.succeeded(account)
                except Exception as error:  # the directories are left to the prologue of later jobs
                    self._pauses.failed(account)
                    log.debug("The claims of %d tasks on %s cannot be removed: %s", len(some), account, error)
            await self._deletions.delete([one for one in some if one.row in removed or self._is_too_late(one)])

    def _is_too_late(self, one: ScannedRecord) -> bool:
        """Ask for the task again later, and ever more seldom; tell whether not to ask any more."""
        now = time.monotonic()
        waiting = self._waiting.get(one.row)
        if waiting is None:  # it was cleared meanwhile
            return False
        waiting.due = 2 * now - waiting.since
        return now - waiting.since > _GIVE_UP_AFTER


async def _remove_claims(signatures: RecordSignatures, account: Account, over: list[ScannedRecord]) -> set[Row]:
    """Remove the claims of tasks, and return the rows of those that have left nothing."""
    from firecrest_core import lifecycle
    from firecrest_core.api.client import FirecRESTClient
    from firecrest_core.jobs.job import Job

    jobs: defaultdict[str, dict[Job, Row]] = defaultdict(dict)
    connection = await account.load()
    for one in over:
        if signatures.approve(one, connection) and await asyncio.to_thread(_forget_identity, one):
            for job in map(Job.from_dict, one.record.jobs):
                jobs[job.system][job] = one.row
    removed: set[Row] = set()
    async with FirecRESTClient(connection) as client:
        for system, rows in jobs.items():
            removed |= {rows[job] for job in await lifecycle.clean_up(client.system(system), list(rows))}
    return removed


def _forget_identity(one: ScannedRecord) -> bool:
    """Let the next run of a task have an identity of its own, unless it has begun; tell whether it has not."""
    begun = False

    def forget(value: str) -> str:
        nonlocal begun
        try:
            stored = json.loads(value)
            begun = bool(stored) and stored["max_tries"] != one.record.max_tries
        except (KeyError, TypeError, ValueError):  # it was edited: no run can begin with this
            begun = True
        return value if begun else "{}"

    is_over = airflow_internals.change_stored_values(
        one.stored, [identity_key(one.stored)], forget, only_while=str(one.stored.state)
    )
    return is_over and not begun
