"""The DAG runs of a window of time, and the jobs that their tasks have stored."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from airflow_provider_firecrest.airflow_internals import jobs as tables
from airflow_provider_firecrest.airflow_internals.jobs import StoredJob, StoredRun
from airflow_provider_firecrest.job_snapshots import ENDED_KEY, FOLLOWED_KEY, SNAPSHOT_KEY
from airflow_provider_firecrest.monitoring import stored as stored_snapshots
from airflow_provider_firecrest.monitoring.rows import JobRow
from firecrest_core.jobs.snapshot import JobSnapshot

WINDOW = 31 * 86400.0
"""Seconds: runs that may have begun earlier are left out, unless they are active."""

MOST_JOBS = 50_000
"""The newest jobs that are kept."""

_SECONDS_OF_READING = (0.2, 0.6)
"""How long a refresh reads the jobs of runs that are not known yet: the first one, and each that goes on."""

_SLICES = (16, 512)
"""How many of them are read at once: at first and at least, and at most."""

_SLICES_OF_READING = 4
"""How many slices a refresh should read at least."""

_CHECKED = 500
"""Ended runs that each refresh looks for: a person may have deleted or cleared them."""

_SECONDS_OF_TRAILING = 300.0
"""How long the jobs of a run are read after its end: its last worker or trigger may still tell of them."""

_OVERLAP = 60.0
"""Seconds by which clocks of database clients may differ, or a transaction may last."""

_Place = tuple[str, int, str, bool]  # task id, map index, key, whether it is an XCom


@dataclass(slots=True)
class _Cell:
    """A stored value, without its text, and with the jobs that it holds."""

    stamp: float
    task_state: str | None
    try_number: int | None
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
        self._waiting: dict[int, StoredRun] = {}  # to be read, the newest first
        self._slice = _SLICES[0]
        self._last_number = 0
        self._listed_to: StoredRun | None = None
        self._all_listed = False
        self._checked_to = 0
        self._changed = False

    def refresh(self) -> None:
        """Read what has changed in the runs that are known, and then others, as many as there is time for."""
        now = time.time()
        since = now - WINDOW
        if not self.has_begun:
            self._last_number = tables.last_run_number()
        active = {run.number: run for run in tables.active_runs()}
        new = tables.runs_after_number(self._last_number, _CHECKED)
        self._last_number = max([self._last_number, *(run.number for run in new)])
        self._note_active(active, now)
        again = {run.number: run for run in self._check(since, now)}
        self._read_again((again | active).values(), now)
        self._waiting |= {run.number: run for run in new if run.run_after >= since}
        seconds = _SECONDS_OF_READING[self.has_begun]
        until = time.monotonic() + seconds
        self._read_waiting(now, until, seconds / _SLICES_OF_READING)
        while not (self._all_listed or self._waiting):
            self._list_older(since)
            self._read_waiting(now, until, seconds / _SLICES_OF_READING)
            if time.monotonic() >= until:
                break
        self._note_active(active, now)
        self.complete, self.has_begun = self._all_listed and not self._waiting, True
        if self._changed:
            self._publish()

    def _note_active(self, active: Collection[int], now: float) -> None:
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

    def _list_older(self, since: float) -> None:
        """Let older runs of the window wait for being read."""
        older = tables.runs_by_date(since, self._listed_to, _SLICES[1])
        self._waiting |= {run.number: run for run in older if run.number not in self._runs}
        self._listed_to = older[-1] if older else self._listed_to
        self.truncated = sum(len(known.rows) for known in self._runs.values()) >= MOST_JOBS
        self._all_listed = self.truncated or len(older) < _SLICES[1]

    def _read_waiting(self, now: float, until: float, seconds_of_slice: float) -> None:
        """Read runs that wait, at least one slice: the first answer has jobs soon, however many jobs a run has."""
        while self._waiting:
            newest = heapq.nlargest(self._slice, self._waiting.values(), key=lambda run: (run.run_after, run.number))
            began = time.monotonic()
            self._read_whole(newest, now)
            took = time.monotonic() - began
            wished = self._slice * 2 if took < seconds_of_slice else self._slice // 2
            self._slice = min(max(wished, _SLICES[0]), _SLICES[1])
            if time.monotonic() >= until:
                break

    def _read_whole(self, runs: Iterable[StoredRun], now: float) -> None:
        for run in runs:
            self._waiting.pop(run.number, None)
            known = self._runs.get(run.number)
            if known is not None and _is_same(known.run, run):
                known.run = run
            else:
                self._forget(run.number)
                self._runs[run.number] = _Known(run, (run.updated_at or 0.0) + _SECONDS_OF_TRAILING)
        numbers = [run.number for run in runs]
        self._take(numbers, tables.stored_jobs(numbers, SNAPSHOT_KEY, ENDED_KEY), now)
        for number in numbers:
            if not self._runs[number].rows and self._runs[number].due_until <= now:
                del self._runs[number]

    def _read_again(self, runs: Iterable[StoredRun], now: float) -> None:
        """Read what is newer in runs that were read a moment ago; the others have to wait."""
        recent: list[int] = []
        for run in runs:
            known = self._runs.get(run.number)
            if known is not None and _is_same(known.run, run) and now - known.read_at < _SECONDS_OF_TRAILING:
                known.run = run
                recent.append(run.number)
            else:
                self._waiting[run.number] = run
        newer_than = min((self._runs[number].read_at for number in recent), default=now) - _OVERLAP
        found = tables.stored_jobs(recent, SNAPSHOT_KEY, ENDED_KEY, newer_than=newer_than)
        if missed := self._take(recent, found, now):
            self._read_whole([self._runs[number].run for number in missed], now)

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
                place = _place(stored)
                cell = known.cells.get(place)
                if cell is not None and cell.stamp == stored.stamp:
                    snapshots = cell.snapshots
                elif stored.value is None and not stored.is_long:
                    missed.append(number)
                    break
                else:
                    snapshots = stored_snapshots.read(stored.value)
                cells[place] = _Cell(stored.stamp, stored.task_state, stored.try_number, snapshots)
            else:
                known.read_at = now
                if cells != known.cells:
                    known.cells, known.rows, self._changed = cells, tuple(_rows(known.run, cells)), True
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


def _is_same(known: StoredRun, run: StoredRun) -> bool:
    """Tell whether it is the same run: databases use the numbers of deleted ones again."""
    return (known.dag_id, known.run_id) == (run.dag_id, run.run_id)


def rows_of(run: StoredRun, found: Iterable[StoredJob], *, with_history: bool = False) -> list[JobRow]:
    """Return the jobs of a run.

    :param run: the run
    :param found: what its tasks have stored
    :param with_history: with what happened to the jobs
    """
    cells = {
        _place(one): _Cell(
            one.stamp, one.task_state, one.try_number, stored_snapshots.read(one.value, with_history=with_history)
        )
        for one in found
    }
    return list(_rows(run, cells))


def _place(stored: StoredJob) -> _Place:
    return stored.task_id, stored.map_index, stored.key, stored.is_xcom


def _rows(run: StoredRun, cells: dict[_Place, _Cell]) -> Iterator[JobRow]:
    """Yield the jobs of XComs, and then those of the state store that no XCom of the same task tells of."""
    seen: set[tuple[str, int, str, str]] = set()
    for (task_id, map_index, key, is_xcom), cell in sorted(cells.items(), key=lambda item: not item[0][3]):
        for snapshot in cell.snapshots:
            job = (task_id, map_index, snapshot.system, snapshot.job_id)
            if job not in seen:
                seen.add(job)
                yield JobRow(
                    dag_id=run.dag_id,
                    run_id=run.run_id,
                    task_id=task_id,
                    map_index=map_index,
                    try_number=cell.try_number,
                    task_state=cell.task_state,
                    ended_earlier=not is_xcom,
                    is_followed=key.startswith(FOLLOWED_KEY),
                    snapshot=snapshot,
                )
