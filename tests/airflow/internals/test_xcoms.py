"""XComs: contract tests of ``airflow_internals``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from airflow_provider_firecrest import airflow_internals
from tests.airflow.internals.contract import TASK, contract


def test_get_xcom(monkeypatch, ti) -> None:
    import inspect

    from airflow.sdk.execution_time.xcom import XCom

    explanation = (
        "airflow_internals.get_xcom asks XCom.aget_one(key, dag_id, task_id, run_id, map_index): it has changed"
    )
    parameters = inspect.signature(XCom.aget_one).parameters
    assert {"key", "dag_id", "task_id", "run_id", "map_index"} <= parameters.keys(), explanation
    assert inspect.iscoroutinefunction(XCom.aget_one), explanation

    async def refuses(**asked: Any) -> None:
        raise RuntimeError("no supervisor")

    monkeypatch.setattr(XCom, "aget_one", refuses)
    with pytest.raises(airflow_internals.TaskStateUnknown, match="no supervisor"):
        asyncio.run(airflow_internals.get_xcom(ti, "job_id"))


def test_change_xcoms(store_task, tables) -> None:
    from airflow.models.xcom import XComModel
    from sqlalchemy import insert, select

    with contract(
        airflow_internals.change_xcoms,
        "rows of XComModel hold JSON, or a text of JSON, and can be changed by the number of the run",
    ):
        store_task(firecrest_jobs=1)
        values = {"job": {"n": 1}, "job.a": '{"n": 2}', "jobs": {"n": 3}, "job.b": ["n"]}
        with tables() as session:
            XComModel.__table__.create(session.connection())
            rows = [{**TASK, "dag_run_id": 1, "key": key, "value": value} for key, value in values.items()]
            session.execute(insert(XComModel), rows)
        tasks = airflow_internals.read_stored_values("firecrest_jobs")
        airflow_internals.change_xcoms(tasks, "job", lambda task, old: {"n": 10 * old["n"]})
        with tables() as session:
            found = dict(session.execute(select(XComModel.key, XComModel.value)).all())
        assert found == values | {"job": {"n": 10}, "job.a": '{"n": 20}'}


def test_allow_in_xcoms(monkeypatch) -> None:
    from airflow.sdk import serde

    from firecrest_core.jobs.job import Job

    monkeypatch.setattr(serde, "_extra_allowed", set())
    job = Job(system="daint", job_id="1")
    stored = json.loads(json.dumps(serde.serialize(job)))
    with contract(
        airflow_internals.allow_in_xcoms,
        "airflow.sdk.serde reads objects of the classes in _extra_allowed, by their serialize() and deserialize()",
    ):
        with pytest.raises(ImportError, match="allow list"):
            serde.deserialize(stored)
        airflow_internals.allow_in_xcoms(["firecrest_core.jobs.job.Job"])
        assert serde.deserialize(stored) == job
