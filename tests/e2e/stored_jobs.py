"""Jobs of past runs, written into the tables of a running Airflow as its tasks store them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_firecrest.job_snapshots import SNAPSHOT_KEY
from firecrest_core.jobs.snapshot import JobSnapshot
from harness.airflow.stack import AirflowStack

TASK = "job"


class StoredJobs:
    """Runs that have ended, with a mapped task that has a job in each element.

    Their DAGs need not exist: nothing but the page looks at such runs.

    :param stack: the Airflow, with a database of SQLite
    """

    def __init__(self, stack: AirflowStack) -> None:
        from airflow import models
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel
        from sqlalchemy import create_engine

        models.import_all_models()
        self._engine = create_engine(f"sqlite:///{stack.airflow.home / 'airflow.db'}", connect_args={"timeout": 60})
        # A run is deleted after what belongs to it.
        self._tables: list[Any] = [model.__table__ for model in (DagRun, TaskInstance, XComModel)]
        self._last = 0
        self._dag_ids: set[str] = set()

    def add(self, dag_id: str, run_id: str, jobs: Sequence[JobSnapshot], *, task_state: str = "success") -> None:
        """Store a run with jobs.

        :param dag_id: its DAG
        :param run_id: its id
        :param jobs: a job for each element of its task
        :param task_state: the state of the elements
        """
        self.add_all([(dag_id, run_id, jobs)], task_state)

    def add_all(self, runs: Sequence[tuple[str, str, Sequence[JobSnapshot]]], task_state: str = "success") -> None:
        """Store runs, the oldest first, a minute apart.

        :param runs: of each the DAG, the id and its jobs
        :param task_state: the state of the tasks
        """
        from sqlalchemy import func, insert, select

        self._dag_ids |= {dag_id for dag_id, _, _ in runs}
        now = datetime.now(UTC)
        rows: tuple[list[dict[str, Any]], ...] = [], [], []
        with self._engine.begin() as connection:
            # SQLite would give the number of a run that was deleted to the next one; other databases do not.
            last = max(connection.scalar(select(func.max(self._tables[0].c.id))) or 0, self._last)
            self._last = last + len(runs)
            for number, (dag_id, run_id, jobs) in enumerate(runs, last + 1):
                at = now - timedelta(minutes=last + len(runs) - number)
                name = {"dag_id": dag_id, "run_id": run_id}
                times = dict.fromkeys(("run_after", "created_at", "updated_at"), at)
                ended = {"run_type": "manual", "state": "success", "span_status": "ended", "clear_number": 0}
                rows[0].append(name | {"id": number, "log_template_id": 1} | times | ended)
                for index, job in enumerate(jobs):
                    task = name | {"task_id": TASK, "map_index": index}
                    state = {"id": uuid.uuid4(), "state": task_state, "try_number": 1, "max_tries": 0}
                    rows[1].append(task | state | {"pool": "default_pool", "pool_slots": 1})
                    value = {"key": SNAPSHOT_KEY, "value": job.to_dict(), "timestamp": now}
                    rows[2].append(task | {"dag_run_id": number} | value)
            for table, some in zip(self._tables, rows, strict=True):
                connection.execute(insert(table), some)

    def delete(self, dag_id: str) -> None:
        """Delete the runs of a DAG, with all that belongs to them.

        :param dag_id: the DAG
        """
        from sqlalchemy import delete

        with self._engine.begin() as connection:
            for table in reversed(self._tables):
                connection.execute(delete(table).where(table.c.dag_id == dag_id))

    def delete_all(self) -> None:
        """Delete all runs that were stored here."""
        for dag_id in self._dag_ids:
            self.delete(dag_id)
        self._engine.dispose()
