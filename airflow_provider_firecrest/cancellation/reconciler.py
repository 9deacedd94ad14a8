"""Cancels the jobs of tasks that have ended in Airflow, whether or not a process of theirs was notified.

Airflow calls nobody when a person ends a task between its deferral and the start of its trigger, while it waits in
the queue to be resumed or retried, or while its worker or the triggerer is down. A cleared task may wait for hours
until its new try can cancel the old job. So a thread in each triggerer's main process compares the tasks' records
(:mod:`airflow_provider_firecrest.cancellation.records`) with the tasks' states every few seconds. That takes one query,
and nothing else while nothing is to be cancelled. Where several triggerers run, each does so: cancelling is idempotent.

If a run is deleted, the records of its tasks are deleted with it. The jobs of those that were seen before are cancelled
then. Airflow lets a run be deleted only after it has ended or a person has marked it, and the API server's listeners
are notified of such a mark. So the API server reconciles, too, for half a minute after it, in case no triggerer runs.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from dataclasses import replace

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.cancellation.claim_remover import ClaimRemover
from airflow_provider_firecrest.cancellation.policy import EndReason
from airflow_provider_firecrest.cancellation.records import describe_jobs
from airflow_provider_firecrest.cancellation.scan import ScannedRecord, scan

log = logging.getLogger(__name__)

INTERVAL = 3.0
"""Seconds between two scans."""

SECONDS_AFTER_MARK = 30.0
"""How long the API server reconciles after a run was marked."""

_PAUSE_AFTER_FAILURE = 60.0


class Reconciler:
    """Scans the tasks' records, cancels the jobs that no task wants any more, and removes what finished ones left."""

    def __init__(self) -> None:
        self._latest: dict[tuple[int, str], ScannedRecord] = {}
        self._remembered: dict[tuple[int, str], ScannedRecord] = {}
        self._deleted: dict[tuple[int, str], ScannedRecord] = {}
        self._cancelling: dict[tuple[int, str], asyncio.Task[None]] = {}
        self._not_before: dict[tuple[int, str], float] = {}
        self._claims = ClaimRemover()
        self._can_read = True

    async def run(self, thread: ReconcilerThread) -> None:
        """Reconcile again and again.

        :param thread: says until when; it may be prolonged meanwhile
        """
        while time.monotonic() < thread.until:
            while time.monotonic() < thread.until:
                await self._try_once()
                await asyncio.sleep(INTERVAL)
            await self.drain()

    async def _try_once(self) -> None:
        try:
            await self.reconcile_once()
        except Exception:
            # Said once: the database may be away for long, and the triggerer itself reports that.
            log.log(
                logging.WARNING if self._can_read else logging.DEBUG,
                "Airflow's database cannot be read. Until it can, the jobs of tasks that a person ends or clears are "
                "cancelled by their workers and triggers alone.",
                exc_info=True,
            )
            self._can_read = False
        else:
            if not self._can_read:
                log.info("Airflow's database can be read again.")
            self._can_read = True

    def remember(self, scanned: list[ScannedRecord]) -> None:
        """Take over what another thread has read, as if the latest scan had shown it.

        :param scanned: what :func:`scan` returned there
        """
        self._remembered |= {one.row: one for one in scanned}

    async def reconcile_once(self) -> None:
        """Scan once, and begin to cancel what has to be cancelled."""
        scanned = {one.row: one for one in await asyncio.to_thread(scan)}
        remembered, self._remembered = self._remembered, {}
        self._latest = remembered | self._latest
        lost = [one for row, one in self._latest.items() if row not in scanned]
        if lost:
            dag_runs = await asyncio.to_thread(
                airflow_internals.existing_dag_runs, {one.stored.dag_run for one in lost}
            )
            for one in lost:
                # A record that is lost while its run is there was deleted by the task itself.
                if one.stored.dag_run not in dag_runs and not one.record.ended:
                    self._deleted[one.row] = replace(one, reason=EndReason.DELETED_WITH_RUN)
        self._latest = scanned
        for one in (*scanned.values(), *self._deleted.values()):
            if one.reason and one.row not in self._cancelling and self._is_due(one):
                self._cancelling[one.row] = asyncio.create_task(self._cancel(one))
        self._not_before = {row: at for row, at in self._not_before.items() if row in scanned or row in self._deleted}
        self._claims.begin(scanned.values())

    def _is_due(self, one: ScannedRecord) -> bool:
        return time.monotonic() >= self._not_before.get(one.row, 0.0)

    async def drain(self) -> None:
        """Wait until everything is done that was begun."""
        await asyncio.gather(*self._cancelling.values(), self._claims.drain())

    async def _cancel(self, one: ScannedRecord) -> None:
        from airflow_provider_firecrest.hooks import connection as stored_connection
        from airflow_provider_firecrest.hooks.client import client_type
        from firecrest_core import lifecycle
        from firecrest_core.jobs.job import Job

        conn_id, jobs = one.record.firecrest_conn_id, describe_jobs(one.record.jobs)
        try:
            connection = await asyncio.to_thread(stored_connection.load, conn_id)
            async with client_type(conn_id)(connection) as client:
                for job in map(Job.from_dict, one.record.jobs):
                    await lifecycle.cancel(client.system(job.system), job)
            log.info("%s: cancelled %s.", one, jobs)
            self._not_before[one.row] = math.inf
            # The new try of a cleared task must know what to wait for: a job that is cancelled may run on for a while.
            if one.reason is not EndReason.CLEARED:
                await asyncio.to_thread(airflow_internals.delete_stored_value, one.stored)
            self._deleted.pop(one.row, None)
        except Exception as error:
            self._not_before[one.row] = time.monotonic() + _PAUSE_AFTER_FAILURE
            log.error("%s, but %s cannot be cancelled: %s", one, jobs, error)
        finally:
            del self._cancelling[one.row]


class ReconcilerThread(threading.Thread):
    """A thread that reconciles.

    :param until: when to stop, on the monotonic clock
    """

    def __init__(self, until: float = math.inf) -> None:
        super().__init__(name="firecrest-reconciler", daemon=True)
        self.until = until
        self.reconciler = Reconciler()

    def run(self) -> None:
        """Reconcile until it is time to stop."""
        asyncio.run(self.reconciler.run(self))


_lock = threading.Lock()
_thread: ReconcilerThread | None = None


def start() -> None:
    """Reconcile in a thread of this process, as long as it lives."""
    ReconcilerThread().start()


def run_for(seconds: float) -> None:
    """Remember the tasks' records as they are now, and reconcile in a thread of this process for a while.

    :param seconds: for how long, at least
    """
    global _thread
    # The caller may have changed the tasks without having committed it, so nothing may be written here.
    scanned = scan(note_clears=False)
    until = time.monotonic() + seconds
    with _lock:
        if _thread is None or not _thread.is_alive():
            _thread = ReconcilerThread(until)
            _thread.start()
        _thread.until = until
        _thread.reconciler.remember(scanned)
