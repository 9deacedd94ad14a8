"""Cancels the jobs of tasks that have ended in Airflow, whether or not a process of theirs was notified.

Airflow calls nobody when a person ends a task between its deferral and the start of its trigger, while it waits in
the queue to be resumed or retried, or while its worker or the triggerer is down. A cleared task may wait for hours
until its new try can cancel the old job. So a thread in each triggerer's main process compares the tasks' records
(:mod:`airflow_provider_firecrest.job_records`) with the tasks' states every few seconds. Where several
triggerers run, each does so: cancelling is idempotent.

If a run is deleted, the records of its tasks are deleted with it. The jobs of those that were seen before are cancelled
then. Airflow lets a run be deleted only after it has ended or a person has marked it, and the API server's listeners
are notified of such a mark. So the API server reconciles that run, too, for half a minute, in case no triggerer runs.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from dataclasses import replace

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.cancel_policy import EndReason
from airflow_provider_firecrest.cancellation.batches import Batches
from airflow_provider_firecrest.cancellation.claim_remover import ClaimRemover
from airflow_provider_firecrest.cancellation.deletions import Deletions
from airflow_provider_firecrest.cancellation.record_sources import MarkedRuns, RecordSource, WholeTable, first_line
from airflow_provider_firecrest.cancellation.scan import Row, ScannedRecord
from airflow_provider_firecrest.cancellation.signatures import RecordSignatures
from firecrest_core.pauses import Pauses

log = logging.getLogger(__name__)

SECONDS_AFTER_MARK = 30.0
"""How long the API server reconciles after a run was marked."""


class Reconciler:
    """Reads the tasks' records, cancels the jobs that no task wants any more, and removes what finished ones left.

    :param source: where the records are
    """

    def __init__(self, source: RecordSource) -> None:
        self._source = source
        self._latest: dict[Row, ScannedRecord] = {}
        self._remembered: dict[Row, ScannedRecord] = {}
        self._deleted: dict[Row, ScannedRecord] = {}
        self._signatures = RecordSignatures()
        self._deletions = Deletions()
        self._batches = Batches(self._signatures, self._deletions)
        self._claims = ClaimRemover(self._signatures, self._deletions)
        self._outage = Pauses(3.0, 300.0)

    async def run(self, thread: ReconcilerThread) -> None:
        """Reconcile again and again.

        :param thread: says until when; it may be prolonged meanwhile
        """
        while time.monotonic() < thread.until:
            while time.monotonic() < thread.until:
                try:
                    await self.reconcile_once()
                except ImportError as error:
                    log.warning(
                        "The reconciler of FirecREST jobs does not run here, because Airflow's database cannot be "
                        "read: %s. The jobs of tasks that a person ends or clears are cancelled by their workers and "
                        "triggers alone.",
                        first_line(error),
                    )
                    return
                except Exception as error:
                    self._report_outage(error)
                else:
                    if self._outage.succeeded("reading"):
                        log.info("Airflow's database can be read again.")
                await asyncio.sleep(self._pause(thread.until))
            await self.drain()

    def _pause(self, until: float) -> float:
        pause = max(self._source.remaining, self._outage.remaining("reading"))
        return max(0.0, min(pause, until - time.monotonic()))

    def _report_outage(self, error: Exception) -> None:
        # Said once: the database may be away for long, and the triggerer itself reports that.
        log.log(
            logging.WARNING if self._outage.failed("reading") else logging.DEBUG,
            "Airflow's database cannot be read. Until it can, the jobs of tasks that a person ends or clears are "
            "cancelled by their workers and triggers alone: %s",
            first_line(error),
        )

    def remember(self, scanned: list[ScannedRecord]) -> None:
        """Take over what another thread has read, as if the latest look had shown it.

        :param scanned: the records
        """
        self._remembered |= {one.row: one for one in scanned}

    async def reconcile_once(self) -> None:
        """Read the records once, and begin what has to be done."""
        scanned = {one.row: one for one in await asyncio.to_thread(self._source.read)}
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
        self._deleted = {row: one for row, one in self._deleted.items() if not self._batches.is_settled(one)}
        present = [*scanned.values(), *self._deleted.values()]
        await self._signatures.look_at(present)
        await self._batches.begin([one for one in present if one.reason])
        self._claims.begin(scanned.values())
        await self._deletions.work()

    async def drain(self) -> None:
        """Wait until everything is done that was begun."""
        await asyncio.gather(self._batches.drain(), self._claims.drain())


class ReconcilerThread(threading.Thread):
    """A thread that reconciles.

    :param source: where the records are
    :param until: when to stop, on the monotonic clock
    """

    def __init__(self, source: RecordSource, until: float = math.inf) -> None:
        super().__init__(name="firecrest-reconciler", daemon=True)
        self.until = until
        self.reconciler = Reconciler(source)

    def run(self) -> None:
        """Reconcile until it is time to stop."""
        asyncio.run(self.reconciler.run(self))


_lock = threading.Lock()
_marked_runs = MarkedRuns()
_thread: ReconcilerThread | None = None


def start() -> None:
    """Reconcile all tasks in a thread of this process, as long as it lives."""
    ReconcilerThread(WholeTable()).start()


def look_after(dag_run: int, seconds: float) -> None:
    """Remember the records of a run as they are now, and reconcile it in a thread of this process for a while.

    :param dag_run: the run's number
    :param seconds: for how long, at least
    """
    global _thread
    until = time.monotonic() + seconds
    # The caller may have changed the tasks without having committed it, so nothing may be written here.
    scanned = _marked_runs.add(dag_run, until)
    if not scanned:
        return
    with _lock:
        if _thread is None or not _thread.is_alive():
            _thread = ReconcilerThread(_marked_runs, until)
            _thread.start()
        _thread.until = until
        _thread.reconciler.remember(scanned)
