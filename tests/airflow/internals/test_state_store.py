"""Airflow's task state store: contract tests of ``airflow_internals``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import StoredValue
from tests.airflow.internals.contract import contract


def values(tables: Callable[[], Any]) -> dict[str, Any]:
    from airflow.models.task_state_store import TaskStateStoreModel
    from sqlalchemy import select

    query = select(TaskStateStoreModel.key, TaskStateStoreModel.value)
    with tables() as session:
        return {key: json.loads(value) for key, value in session.execute(query)}


def test_read_stored_values(store_task, tables) -> None:
    with contract(
        airflow_internals.read_stored_values,
        "TaskStateStoreModel holds the values of tasks as JSON, and has the columns of TaskInstance that name a task",
    ):
        store_task("deferred", firecrest_jobs={"jobs": []}, other=1)
        [one] = airflow_internals.read_stored_values("firecrest_jobs")
        assert (one.dag_run, one.dag_id, one.task_id, one.map_index) == ((1, "run"), "dag", "job", -1)
        assert (json.loads(one.value), one.state, one.max_tries) == ({"jobs": []}, "deferred", 2)
        assert one.has_task


def test_read_stored_values_below_a_key(store_task) -> None:
    with contract(airflow_internals.read_stored_values, "TaskStateStoreModel.key is a text that SQL can compare"):
        store_task(**{"firecrest_jobs.a": 1, "firecrest_jobs": 1, "firecrest_jobsb": 1, "firecrestAjobs.a": 1})
        assert {one.key for one in airflow_internals.read_stored_values("firecrest_jobs")} == {
            "firecrest_jobs",
            "firecrest_jobs.a",
        }


def test_read_stored_values_of_some(store_task) -> None:
    with contract(
        airflow_internals.read_stored_values,
        "TaskStateStoreModel has the columns id and dag_run_id, and TaskInstance has a state",
    ):
        store_task("deferred", firecrest_jobs=1)
        [one] = airflow_internals.read_stored_values("firecrest_jobs")
        assert airflow_internals.last_stored_row() == one.row
        for some in ({"rows": [one.row]}, {"above": one.row - 1}, {"dag_runs": [1]}, {"state": "deferred"}):
            assert airflow_internals.read_stored_values("firecrest_jobs", **some) == [one]
        for none in ({"rows": [one.row + 1]}, {"rows": []}, {"above": one.row}, {"dag_runs": [2]}, {"state": "failed"}):
            assert airflow_internals.read_stored_values("firecrest_jobs", **none) == []


def test_is_reference(monkeypatch) -> None:
    from airflow.sdk.execution_time import context, task_runner

    sent: list[Any] = []
    backend = SimpleNamespace(serialize_task_state_store_to_ref=lambda **_: "elsewhere")
    with contract(
        airflow_internals.is_reference,
        "a worker with a state store backend of its own stores a mapping with the key __airflow_state_ref__ alone",
    ):
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=sent.append), raising=False)
        monkeypatch.setattr(context, "_get_worker_state_store_backend", lambda: backend)
        context.TaskStateStoreAccessor(uuid.uuid4(), None).set("key", {"jobs": []}, retention=context.NEVER_EXPIRE)
        [message] = sent
        assert airflow_internals.is_reference(message.value)
        assert not airflow_internals.is_reference({"jobs": []})
        assert not airflow_internals.is_reference(None)


def test_what_a_task_stores_is_what_is_read(monkeypatch) -> None:
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import SetTaskStateStore
    from airflow.sdk.execution_time.context import NEVER_EXPIRE, TaskStateStoreAccessor

    sent: list[SetTaskStateStore] = []

    class Supervisor:
        def send(self, message: SetTaskStateStore) -> None:
            sent.append(message)

    with contract(
        airflow_internals.read_stored_values,
        "context['task_state_store'] sends values as they are, with no expiry for NEVER_EXPIRE",
    ):
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
        TaskStateStoreAccessor(uuid.uuid4(), None).set("firecrest_jobs", {"jobs": []}, retention=NEVER_EXPIRE)
        [message] = sent
        assert (message.key, message.value, message.expires_at) == ("firecrest_jobs", {"jobs": []}, None)


@pytest.mark.parametrize(("state", "changed"), [("restarting", True), ("running", False)])
def test_change_stored_values(store_task, tables, state, changed) -> None:
    with contract(
        airflow_internals.change_stored_values,
        "rows of TaskStateStoreModel can be changed while the row of their TaskInstance is locked",
    ):
        store_task(state, firecrest=1, firecrest_jobs=1, other=1)
        [one] = airflow_internals.read_stored_values("firecrest_jobs")
        done = airflow_internals.change_stored_values(
            one, ["firecrest", "firecrest_jobs"], lambda value: f"{value}0", only_while="restarting"
        )
        assert done is changed
        number = 10 if changed else 1
        assert values(tables) == {"firecrest": number, "firecrest_jobs": number, "other": 1}


def test_delete_stored_values(store_task, tables) -> None:
    with contract(airflow_internals.delete_stored_values, "rows of TaskStateStoreModel can be deleted"):
        store_task(firecrest_jobs=1, other=1)
        [one] = airflow_internals.read_stored_values("firecrest_jobs")
        airflow_internals.delete_stored_values([StoredValue(**{**vars(one), "value": "2"})])
        assert values(tables) == {"firecrest_jobs": 1, "other": 1}
        airflow_internals.delete_stored_values([one])
        assert values(tables) == {"other": 1}


def test_existing_dag_runs(store_task) -> None:
    with contract(airflow_internals.existing_dag_runs, "DagRun has the columns id and run_id"):
        store_task()
        asked = {(1, "run"), (1, "another run of the same number"), (2, "run")}
        assert airflow_internals.existing_dag_runs(asked) == {(1, "run")}
