"""Where a reconciler finds the records: in the whole table, or in the runs that were marked lately."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Protocol

from airflow.sdk import TaskInstanceState

from airflow_provider_firecrest import airflow_internals, job_records
from airflow_provider_firecrest.airflow_internals import StoredValue
from airflow_provider_firecrest.cancellation.pace import Pace
from airflow_provider_firecrest.cancellation.scan import RecordParser, ScannedRecord, note_clear
from firecrest_core.pauses import Pauses

log = logging.getLogger(__name__)

INTERVAL = 3.0
"""Seconds between two looks at the records at least."""

FULL_INTERVAL = 60.0
"""Seconds between two looks at the whole table at least."""

# Rows below the highest one that are read once more: transactions commit out of order.
_OVERLAP = 1000


class RecordSource(Protocol):
    """Gives all records that a reconciler looks after."""

    @property
    def remaining(self) -> float:
        """Seconds until they may be read again."""

    def read(self) -> list[ScannedRecord]:
        """Read the records with their tasks' states, and note in the state store which tasks are being cleared."""


class WholeTable:
    """All records of a deployment.

    Airflow's task state store has no index for its keys, and may have a hundred thousand rows and more. So the whole
    table is read seldom. In between, the rows that are known to be records are read, and the newest ones.
    """

    def __init__(self) -> None:
        self._parser = RecordParser()
        self._clears = _Clears()
        self._pace, self._full_pace = Pace(INTERVAL), Pace(FULL_INTERVAL)
        self._last_row = 0

    @property
    def remaining(self) -> float:
        """As in :class:`RecordSource`."""
        return self._pace.remaining

    def read(self) -> list[ScannedRecord]:
        """As in :class:`RecordSource`."""
        began = time.monotonic()
        full = self._full_pace.remaining <= 0.0
        last_row = airflow_internals.last_stored_row()
        found = {one.row: one for one in (self._read_all() if full else self._read_known_and_new(last_row))}
        self._last_row = last_row
        scanned = self._parser.parse(self._clears.noted(found))
        (self._full_pace if full else self._pace).took(time.monotonic() - began)
        self._pace.restart()
        return scanned

    def _read_all(self) -> list[StoredValue]:
        return airflow_internals.read_stored_values(job_records.STORE_KEY)

    def _read_known_and_new(self, last_row: int) -> list[StoredValue]:
        # SQLite uses the numbers of deleted rows again, so the last row may be a lower one than before.
        new = airflow_internals.read_stored_values(
            job_records.STORE_KEY, above=min(last_row, self._last_row) - _OVERLAP
        )
        known = set(self._parser.rows) - {one.row for one in new}
        return [*new, *airflow_internals.read_stored_values(job_records.STORE_KEY, rows=known)]


class MarkedRuns:
    """The records of runs that were marked lately. An index leads to them, so nothing else is read.

    Threads of the API server add runs while the reconciler's thread reads.
    """

    def __init__(self) -> None:
        self._parser = RecordParser()
        self._clears = _Clears()
        self._pace = Pace(INTERVAL)
        self._lock = threading.Lock()
        self._until: dict[int, float] = {}

    @property
    def remaining(self) -> float:
        """As in :class:`RecordSource`."""
        return self._pace.remaining

    def add(self, dag_run: int, until: float) -> list[ScannedRecord]:
        """Add a run, and read its records as they are now, without writing anything.

        :param dag_run: its number
        :param until: until when to look after it, on the monotonic clock
        """
        with self._lock:
            self._until[dag_run] = until
        return RecordParser().parse(airflow_internals.read_stored_values(job_records.STORE_KEY, dag_runs=[dag_run]))

    def read(self) -> list[ScannedRecord]:
        """As in :class:`RecordSource`."""
        began = time.monotonic()
        with self._lock:
            self._until = {dag_run: until for dag_run, until in self._until.items() if until > began}
            dag_runs = list(self._until)
        found = airflow_internals.read_stored_values(job_records.STORE_KEY, dag_runs=dag_runs)
        scanned = self._parser.parse(self._clears.noted({one.row: one for one in found}))
        self._pace.took(time.monotonic() - began)
        return scanned


class _Clears:
    """Notes which tasks are being cleared; a database that cannot be written is said once."""

    def __init__(self) -> None:
        self._pauses = Pauses(3.0, 300.0)
        self._noted: set[StoredValue] = set()

    def noted(self, found: dict[int, StoredValue]) -> Iterable[StoredValue]:
        """Return values as they are after the clears were noted."""
        clears = {one for one in found.values() if one.state == TaskInstanceState.RESTARTING}
        self._noted &= clears
        new = clears - self._noted
        if not new or not self._pauses.is_due("writing"):
            return found.values()
        try:
            for one in new:
                note_clear(one)
        except Exception as error:
            log.log(
                logging.WARNING if self._pauses.failed("writing") else logging.DEBUG,
                "Airflow's database cannot be written, so it may be forgotten that tasks were cleared: %s",
                first_line(error),
            )
            return found.values()
        if self._pauses.succeeded("writing"):
            log.info("Airflow's database can be written again.")
        changed = airflow_internals.read_stored_values(job_records.STORE_KEY, rows=[one.row for one in new])
        found = found | {one.row: one for one in changed}
        self._noted |= {one for one in found.values() if one.state == TaskInstanceState.RESTARTING}
        return found.values()


def first_line(error: BaseException) -> str:
    """Return what a database's error says, without the statement and its parameters.

    :param error: the error
    """
    return str(error).partition("\n")[0] or type(error).__name__
