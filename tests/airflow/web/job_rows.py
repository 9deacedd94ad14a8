"""Jobs that a test shows on the page *HPC Jobs*, without a database."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from airflow_provider_firecrest.job_snapshots import signed
from airflow_provider_firecrest.monitoring.query import JobPage, JobQuery, page_of, select
from airflow_provider_firecrest.monitoring.rows import JobRow
from firecrest_core.connection import Connection
from firecrest_core.jobs.snapshot import JobSnapshot
from firecrest_core.states import JobState

NOW = time.time()
JOB = "/firecrest/jobs/relax/run-1/job/-1/57"
"""The address of the page of the job of :func:`row`."""
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


def row(job_id: str = "57", dag_id: str = "relax", task_state: str = "deferred", **fields: Any) -> JobRow:
    """A job that runs."""
    usual = {
        "system": "daint",
        "connection_id": "firecrest_default",
        "name": "relax-si",
        "state": JobState.RUNNING,
        "submitted_at": NOW - 900,
        "started_at": int(NOW - 600),
        "time_limit": 1200,
        "seen_at": NOW,
    }
    return JobRow(
        dag_id=dag_id,
        run_id="run-1",
        task_id="job",
        map_index=-1,
        try_number=1,
        task_state=task_state,
        ended_earlier=False,
        is_followed=False,
        snapshot=JobSnapshot(job_id=job_id, **usual | fields),
    )


def signed_row(connection: Connection, **fields: Any) -> JobRow:
    """A job whose task has said where its output is."""
    one = row(**fields)
    return replace(one, snapshot=signed(one.snapshot, connection, (one.dag_id, one.run_id, one.task_id, one.map_index)))


class Rows:
    """A board that holds what a test gives it."""

    def __init__(self) -> None:
        self.rows: list[JobRow] = []

    def dag_ids(self) -> frozenset[str]:
        return frozenset(one.dag_id for one in self.rows)

    def find(self, query: JobQuery, readable: Collection[str]) -> JobPage:
        return page_of(select(self.rows, query, readable, NOW), query, complete=True, truncated=False, now=NOW)

    def get(self, dag_id: str, run_id: str, task_id: str, map_index: int, job_id: str) -> JobRow | None:
        asked = (dag_id, run_id, task_id, map_index, job_id)
        found = ((one.dag_id, one.run_id, one.task_id, one.map_index, one.snapshot.job_id) for one in self.rows)
        return next((one for one, name in zip(self.rows, found, strict=True) if name == asked), None)
