"""Airflow's tables with a task in them, for the contract tests of ``airflow_internals``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.airflow.internals.contract import TASK


@pytest.fixture
def store_task(tables: Callable[[], Any]) -> Callable[..., None]:
    """Store a run, a task instance and its values in Airflow's own tables."""

    def store(state: str | None = "running", **values: Any) -> None:
        from airflow.models.dagrun import DagRun
        from airflow.models.task_state_store import TaskStateStoreModel
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import insert

        now = datetime.now(UTC)
        run = {"id": 1, "run_id": "run", "dag_id": "dag", "run_type": "manual", "run_after": now, "log_template_id": 1}
        row = {"id": uuid.uuid4(), "state": state, "max_tries": 2, "pool_slots": 1, "pool": "default_pool"}
        with tables() as session:
            session.execute(insert(DagRun).values(**run))
            session.execute(insert(TaskInstance).values(**TASK, **row))
            for key, value in values.items():
                session.add(TaskStateStoreModel(**TASK, dag_run_id=1, key=key, value=json.dumps(value)))

    return store
