"""All jobs of the last month in the API server's memory, so that a view costs the database next to nothing.

A view answers from memory. Before that it brings the memory up to date, unless that was done a moment ago or another
view does it right now. So fifty viewers cost what one does, and nothing is read while nobody looks. Each API server
process has a board of its own.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from functools import cache

from airflow_provider_firecrest.airflow_internals import jobs as tables
from airflow_provider_firecrest.job_snapshots import ENDED_KEY, SNAPSHOT_KEY
from airflow_provider_firecrest.monitoring.known_runs import KnownRuns, rows_of
from airflow_provider_firecrest.monitoring.query import JobPage, JobQuery, Selection, page_of, select
from airflow_provider_firecrest.monitoring.rows import JobRow

_SECONDS_BETWEEN = 2.0
"""Between two refreshes at least."""

_TIMES = 10.0
"""So many times the duration of a refresh lie between two of them."""

_MOST_SELECTIONS = 64


class JobBoard:
    """The jobs that Airflow's tasks have stored, read by DAG runs."""

    def __init__(self) -> None:
        self._known = KnownRuns()
        self._refreshing = threading.Lock()
        self._due = 0.0
        self._selections: OrderedDict[tuple[JobQuery, frozenset[str]], Selection] = OrderedDict()
        self._selected_from: tuple[JobRow, ...] = ()
        self._selecting = threading.Lock()

    def dag_ids(self) -> frozenset[str]:
        """Return the DAGs that have jobs, of which a viewer may not read all."""
        self._refresh()
        return self._known.dag_ids

    def find(self, query: JobQuery, readable: Collection[str]) -> JobPage:
        """Return the jobs that a viewer asks for.

        :param query: which jobs
        :param readable: the DAGs that the viewer may read
        """
        self._refresh()
        complete, truncated = self._known.complete, self._known.truncated
        selection = self._select(query, frozenset(readable))
        return page_of(selection, query, complete=complete, truncated=truncated, now=time.time())

    def get(self, dag_id: str, run_id: str, task_id: str, map_index: int, job_id: str) -> JobRow | None:
        """Return a job with its history, as the database has it now; the caller checks whether the viewer may see it.

        :param dag_id: the task's DAG
        :param run_id: its run
        :param task_id: the task
        :param map_index: the index of a mapped task; -1 for others
        :param job_id: the job
        """
        run = tables.run_by_name(dag_id, run_id)
        if run is None:
            return None
        stored = tables.stored_jobs([run.number], SNAPSHOT_KEY, ENDED_KEY, task=(task_id, map_index))
        return next((row for row in rows_of(run, stored, with_history=True) if row.snapshot.job_id == job_id), None)

    def _select(self, query: JobQuery, readable: frozenset[str]) -> Selection:
        """Select the jobs of a query; viewers who ask the same share the answer until the jobs change."""
        rows, whole = self._known.rows, _without_page(query)
        with self._selecting:
            if rows is not self._selected_from:
                self._selections.clear()
                self._selected_from = rows
            found = self._selections.get((whole, readable))
            if found is None:
                found = select(rows, query, readable, time.time())
                self._selections[whole, readable] = found
                while len(self._selections) > _MOST_SELECTIONS:
                    self._selections.popitem(last=False)
        return found

    def _refresh(self) -> None:
        """Read what has changed, unless another thread does; the first views wait, as there is nothing to show yet."""
        if time.monotonic() < self._due or not self._refreshing.acquire(blocking=not self._known.has_begun):
            return
        try:
            began = time.monotonic()
            if began < self._due:
                return
            self._known.refresh()
            took = time.monotonic() - began
            self._due = time.monotonic() + (max(_SECONDS_BETWEEN, _TIMES * took) if self._known.complete else took)
        finally:
            self._refreshing.release()


def _without_page(query: JobQuery) -> JobQuery:
    from dataclasses import replace

    return replace(query, page=1, page_size=1)


@cache
def board() -> JobBoard:
    """Return this process's board."""
    return JobBoard()
