"""The DAG runs of a window of time, and the jobs that their tasks have stored."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from airflow_provider_firecrest.airflow_internals import jobs as tables
from airflow_provider_firecrest.airflow_internals.jobs import StoredJob, StoredRun
from airflow_provider_firecrest.job_snapshots import ENDED_KEY, SNAPSHOT_KEY
from airflow_provider_firecrest.monitoring import stored as stored_snapshots
from airflow_provider_firecrest.monitoring.rows import JobRow
from firecrest_core.jobs.snapshot import JobSnapshot

WINDOW = 31 * 86400.0
"""Seconds: runs that may have begun earlier are left out, unless they are active."""

MOST_JOBS = 50_000
"""The newest jobs that are kept."""

_SLICE = 100
"""Runs that are read at once while the window is filled."""

_SECONDS_OF_FILLING = 0.3
"""How long one refresh reads older runs."""

_CHECKED = 500
"""Ended runs that each refresh looks for: a person may have deleted or cleared them."""

_SECONDS_OF_TRAILING = 300.0
"""How long the jobs of a run are read after its end: its last worker or trigger may still tell of them."""

_OVERLAP = 60.0
"""Seconds by which clocks of database clients may differ, or a transaction may last."""

_Place = tuple[str, int, str, bool]  # task id, map index, key, whether it is an XCom


@dataclass(slots=True)
class _Cell:
    stored: StoredJob
    snapshots: tuple[JobSnapshot, ...]


@dataclass(slots=True)
class _Known:
    run: StoredRun
    due_until: float  # Unix time until which each refresh reads its jobs; infinite while the run is active
    read_at: float = 0.0
    cells: dict[_Place, _Cell] = field(default_factory=dict)
    rows: tuple[JobRow, ...] = ()


class KnownRuns:
    """What is known of the runs. One thread at a time refreshes it; ``rows`` and ``dag_ids`` may be read meanwhile.

    A run without jobs is forgotten when it has ended.
    """

    def __init__(self) -> None:
        self.rows: tuple[JobRow, ...] = ()
        self.dag_ids: frozenset[str] = frozenset()
        self.complete = False
        self.truncated = False
        self.has_begun = False
        self._runs: dict[int, _Known] = {}
        self._last_number = 0
        self._filled_to: StoredRun | None = None
        self._checked_to = 0
        self._changed = False

    def refresh(self) -> None:
        """Read active and new runs, check some ended ones, and go on to fill the window."""
        now = time.time()
        since = now - WINDOW
        if not self.has_begun:
            self._last_number = tables.last_run_number()
        active = tables.active_runs()
        new = tables.runs_after_number(self._last_number, _CHECKED)
        self._last_number = max([self._last_number, *(run.number for run in new)])
        self._note_active({run.number for run in active}, now)
        recent = [run for run in new if run.run_after >= since]
        self._read({run.number: run for run in [*recent, *self._check(since, now), *active]}, now)
        self._note_active({run.number for run in active}, now)
        if not self.complete:
            self._fill(since, now)
        self.has_begun = True
        if self._changed:
            self._publish()

    def _note_active(self, active: set[int], now: float) -> None:
        for number, known in self._runs.items():
            if number in active:
                known.due_until = math.inf
            elif known.due_until == math.inf:
                known.due_until = now + _SECONDS_OF_TRAILING

    def _check(self, since: float, now: float) -> list[StoredRun]:
        """Return the known runs whose jobs are to be read again, and forget those that are gone or too old."""
        due = {number for number, known in self._runs.items() if known.due_until > now}
        others = sorted(number for number in self._runs if number not in due)
        part = [number for number in others if number > self._checked_to][:_CHECKED]
        self._checked_to = part[-1] if len(part) == _CHECKED else 0
        there = {run.number: run for run in tables.runs_by_number([*due, *part])}
        again = []
        for number in [*due, *part]:
            known, run = self._runs[number], there.get(number)
            if run is None or (run.run_after < since and number not in due) or not (known.rows or number in due):
                self._forget(number)
            elif number in due or run != known.run:
                again.append(run)
        return again

    def _fill(self, since: float, now: float) -> None:
        until = time.monotonic() + _SECONDS_OF_FILLING
        while not self.complete and time.monotonic() < until:
            older = tables.runs_by_date(since, self._filled_to, _SLICE)
            self._read({run.number: run for run in older if run.number not in self._runs}, now)
            self._filled_to = older[-1] if older else self._filled_to
            self.truncated = sum(len(known.rows) for known in self._runs.values()) >= MOST_JOBS
            self.complete = self.truncated or len(older) < _SLICE

    def _read(self, runs: dict[int, StoredRun], now: float) -> None:
        """Read the jobs of runs: of those that were read a moment ago, only values that are newer."""
        new: list[int] = []
        known: list[int] = []
        for number, run in runs.items():
            one = self._runs.get(number)
            if one is None or one.run.run_id != run.run_id or one.run.dag_id != run.dag_id:
                self._forget(number)
                self._runs[number] = _Known(run, (run.updated_at or 0.0) + _SECONDS_OF_TRAILING)
                new.append(number)
            else:
                one.run = run
                (known if now - one.read_at < _SECONDS_OF_TRAILING else new).append(number)
        newer_than = min((self._runs[number].read_at for number in known), default=now) - _OVERLAP
        missed = self._take(known, tables.stored_jobs(known, SNAPSHOT_KEY, ENDED_KEY, newer_than=newer_than), now)
        whole = [*new, *missed]
        self._take(whole, tables.stored_jobs(whole, SNAPSHOT_KEY, ENDED_KEY), now)
        for number in runs:
            if not self._runs[number].rows and self._runs[number].due_until <= now:
                del self._runs[number]

    def _take(self, numbers: list[int], found: list[StoredJob], now: float) -> list[int]:
        """Take what was found in runs, and return those of which a value is still to be read."""
        of_run: dict[int, list[StoredJob]] = {number: [] for number in numbers}
        for stored in found:
            of_run[stored.run].append(stored)
        missed = []
        for number, all_stored in of_run.items():
            known = self._runs[number]
            cells: dict[_Place, _Cell] = {}
            for stored in all_stored:
                place = (stored.task_id, stored.map_index, stored.key, stored.is_xcom)
                cell = known.cells.get(place)
                if cell is None or cell.stored.stamp != stored.stamp:
                    if stored.value is None and not stored.is_long:
                        missed.append(number)
                        break
                    cell = _Cell(stored, stored_snapshots.read(stored.value))
                cells[place] = _Cell(replace(stored, value=None), cell.snapshots)
            else:
                known.cells, known.read_at = cells, now
                rows = tuple(_rows(known.run, cells.values()))
                if rows != known.rows:
                    known.rows, self._changed = rows, True
        return missed

    def _forget(self, number: int) -> None:
        known = self._runs.pop(number, None)
        self._changed |= known is not None and bool(known.rows)

    def _publish(self) -> None:
        """Show the jobs of all runs, the newest first, as many as there may be."""
        newest = sorted(self._runs.values(), key=lambda known: (known.run.run_after, known.run.number), reverse=True)
        rows: list[JobRow] = []
        for known in newest:
            if len(rows) >= MOST_JOBS and known.rows:
                self.truncated = True
                if known.due_until != math.inf:
                    del self._runs[known.run.number]
            else:
                rows += known.rows
        self.rows = tuple(rows[:MOST_JOBS])
        self.dag_ids = frozenset(row.dag_id for row in self.rows)
        self._changed = False


def rows_of(run: StoredRun, found: Iterable[StoredJob], *, with_history: bool = False) -> list[JobRow]:
    """Return the jobs of a run.

    :param run: the run
    :param found: what its tasks have stored
    :param with_history: with what happened to the jobs
    """
    cells = [_Cell(one, stored_snapshots.read(one.value, with_history=with_history)) for one in found]
    return list(_rows(run, cells))


def _rows(run: StoredRun, cells: Iterable[_Cell]) -> Iterator[JobRow]:
    """Yield the jobs of XComs, and then those of the state store that no XCom of the same task tells of."""
    seen: set[tuple[str, int, str, str]] = set()
    for cell in sorted(cells, key=lambda cell: not cell.stored.is_xcom):
        stored = cell.stored
        for snapshot in cell.snapshots:
            job = (stored.task_id, stored.map_index, snapshot.system, snapshot.job_id)
            if job not in seen:
                seen.add(job)
                yield JobRow(
                    dag_id=run.dag_id,
                    run_id=run.run_id,
                    task_id=stored.task_id,
                    map_index=stored.map_index,
                    try_number=stored.try_number,
                    task_state=stored.task_state,
                    ended_earlier=not stored.is_xcom,
                    snapshot=snapshot,
                )
