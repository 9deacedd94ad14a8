"""The jobs of tasks that have ended are cancelled, with the database's answers given; the e2e tests have a real one."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import StoredValue
from airflow_provider_firecrest.cancellation import reconciler
from airflow_provider_firecrest.cancellation.policy import EndReason
from airflow_provider_firecrest.cancellation.reconciler import Reconciler, ReconcilerThread
from airflow_provider_firecrest.cancellation.records import JobRecord
from airflow_provider_firecrest.cancellation.scan import ScannedRecord, scan
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from airflow_provider_firecrest.plugins import listener
from firecrest_core.states import JobState
from tests.airflow.reconciling import reconcile


class Database:
    """What the reconciler reads and writes."""

    def __init__(self) -> None:
        self.scanned: list[ScannedRecord] = []
        self.deleted_runs: set[tuple[int, str]] = set()
        self.deleted_values: list[StoredValue] = []


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    monkeypatch.setattr(reconciler, "scan", lambda **_: list(database.scanned))
    monkeypatch.setattr(airflow_internals, "existing_dag_runs", lambda runs: runs - database.deleted_runs)
    monkeypatch.setattr(airflow_internals, "delete_stored_value", database.deleted_values.append)
    return database


@pytest.fixture
def job(connected, workdir: Path, ti: Any) -> tuple[str, ScannedRecord]:
    """A job that waits, and what its task has recorded."""
    context = {"ti": ti, "task_state_store": ti.state_store}
    task = FirecRESTSubmitOperator(
        task_id="job", script="#!/bin/bash\ntouch began\nsleep 60\n", working_dir=str(workdir)
    )
    with pytest.raises(TaskDeferred):
        task.execute(context)
    deadline = time.monotonic() + 60
    while not (workdir / "began").exists():  # a job that finds its claim cancelled ends COMPLETED, not CANCELLED
        assert time.monotonic() < deadline
        time.sleep(0.05)
    record = JobRecord.read(context)
    assert record is not None
    stored = StoredValue(1, "record", (1, "run"), "dag", "job", -1, uuid.uuid4(), "deferred", record.max_tries)
    return ti.pushed["job_id"], ScannedRecord(stored, record, None)


def failed(scanned: ScannedRecord) -> ScannedRecord:
    return replace(scanned, stored=replace(scanned.stored, state="failed"), reason=EndReason.FINISHED)


def is_cancelled(job_id: str) -> bool:
    hook = FirecRESTHook()
    if hook.get_job(job_id).state is JobState.RUNNING:
        return False
    return hook.wait_for_job(job_id, poll_interval=0.2, check=False).state is JobState.CANCELLED


def test_the_job_of_a_task_that_goes_on_is_left_alone(job, database) -> None:
    job_id, scanned = job
    database.scanned = [scanned]
    reconcile(lambda: None)
    assert not is_cancelled(job_id)
    FirecRESTHook().cancel_job(job_id)


def test_the_job_of_a_task_that_has_ended_is_cancelled_and_its_record_deleted(job, database) -> None:
    job_id, scanned = job
    database.scanned = [failed(scanned)]
    reconcile()
    assert is_cancelled(job_id)
    assert database.deleted_values == [one.stored for one in database.scanned]


def test_a_cleared_tasks_new_try_still_finds_what_to_wait_for(job, database) -> None:
    job_id, scanned = job
    database.scanned = [replace(scanned, reason=EndReason.CLEARED)]
    reconcile()
    assert is_cancelled(job_id)
    assert database.deleted_values == []


def test_the_job_of_a_run_that_was_deleted(job, database) -> None:
    job_id, scanned = job
    database.scanned = [scanned]

    def delete() -> None:
        database.scanned, database.deleted_runs = [], {scanned.stored.dag_run}

    reconcile(delete)
    assert is_cancelled(job_id)


def test_after_a_run_was_marked_the_api_server_reconciles_for_a_while(job, database, monkeypatch) -> None:
    """The API server hears of the mark and not of the delete after it."""
    job_id, scanned = job
    monkeypatch.setattr(reconciler, "INTERVAL", 0.1)
    monkeypatch.setattr(reconciler, "SECONDS_AFTER_MARK", 2.0)
    monkeypatch.setattr(listener, "_announced", False)
    database.scanned = [scanned]
    listener.on_dag_run_failed()
    database.deleted_runs = {scanned.stored.dag_run}
    database.scanned = []
    thread = reconciler._thread
    listener.on_dag_run_success()
    assert reconciler._thread is thread  # one is enough
    thread.join(60)
    assert not thread.is_alive()
    assert is_cancelled(job_id)


@pytest.mark.parametrize("broken", ["scan", "existing_dag_runs"])
def test_what_is_remembered_outlives_a_database_that_is_away(job, database, monkeypatch, broken) -> None:
    job_id, scanned = job
    database.deleted_runs = {scanned.stored.dag_run}
    one = Reconciler()
    one.remember([scanned])

    def fail(*_: Any) -> None:
        raise OSError("the database is away")

    async def run() -> None:
        with monkeypatch.context() as away, pytest.raises(OSError):
            away.setattr(reconciler if broken == "scan" else airflow_internals, broken, fail)
            await one.reconcile_once()
        await one.reconcile_once()
        await one.drain()

    asyncio.run(run())
    assert is_cancelled(job_id)


def test_a_database_that_is_away_is_reported_once(database, monkeypatch, caplog) -> None:
    monkeypatch.setattr(reconciler, "INTERVAL", 0.05)
    caplog.set_level(logging.INFO)
    attempts = 0

    def scan() -> list[ScannedRecord]:
        nonlocal attempts
        attempts += 1
        if attempts in (1, 2, 3):
            raise OSError("no such table")
        return []

    monkeypatch.setattr(reconciler, "scan", scan)
    thread = ReconcilerThread(until=time.monotonic() + 1.0)
    thread.start()
    thread.join(30)
    assert attempts > 3
    records = [record for record in caplog.records if record.name == reconciler.log.name]
    assert [record.levelname for record in records] == ["WARNING", "INFO"]
    assert "cannot be read" in records[0].getMessage()
    assert "can be read again" in records[1].getMessage()


def test_a_record_that_the_task_itself_deleted(job, database) -> None:
    job_id, scanned = job
    database.scanned = [scanned]
    reconcile(database.scanned.clear)
    assert not is_cancelled(job_id)
    FirecRESTHook().cancel_job(job_id)


def test_what_cannot_be_cancelled_is_tried_again(job, database, store, stored, monkeypatch, caplog) -> None:
    job_id, scanned = job
    monkeypatch.setattr(reconciler, "_PAUSE_AFTER_FAILURE", 0.0)
    database.scanned = [failed(scanned)]
    store(stored | {"password": "wrong"})
    reconcile(lambda: store(stored))
    system = scanned.record.jobs[0]["system"]
    assert f"Task dag.job of run has ended (failed), but job {job_id} on {system} cannot be cancelled" in caplog.text
    assert is_cancelled(job_id)
    assert database.deleted_values == [one.stored for one in database.scanned]


@pytest.fixture
def task_states(tables: Callable[[], Any]) -> dict[str, dict[str, Any]]:
    """What a task has in its state store, in Airflow's own tables."""
    from airflow.models.task_state_store import TaskStateStoreModel as Stored

    values = {
        "firecrest": {"nonce": "n", "epoch": 0, "max_tries": 2, "system": "s", "working_dir": "/w"},
        "firecrest_jobs": {"firecrest_conn_id": "firecrest_default", "max_tries": 2, "jobs": []},
    }
    with tables() as session:
        for key, value in values.items():
            task = {"dag_id": "dag", "task_id": "job", "run_id": "run", "map_index": -1}
            session.add(Stored(**task, dag_run_id=1, key=key, value=json.dumps(value)))
    return values


def insert_task(tables: Callable[[], Any], state: str) -> None:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import insert

    task = {"dag_id": "dag", "task_id": "job", "run_id": "run", "map_index": -1}
    row = {"id": uuid.uuid4(), "state": state, "max_tries": 2, "pool_slots": 1, "pool": "default_pool"}
    with tables() as session:
        session.execute(insert(TaskInstance).values(**task, **row))


@pytest.mark.parametrize(("state", "reason"), [("running", None), ("restarting", EndReason.CLEARED)])
def test_a_clear_that_airflow_may_forget_is_noted(tables, task_states, state, reason) -> None:
    """Of a task that is cleared while it runs, Airflow raises max_tries only once it hears of the worker's end."""
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select, update

    insert_task(tables, state)
    assert [scanned.reason for scanned in scan()] == [reason]
    with tables() as session:
        kept = {key: json.loads(value) for key, value in session.execute(select(Stored.key, Stored.value))}
        assert kept == {key: value | {"max_tries": None if reason else 2} for key, value in task_states.items()}
        session.execute(update(TaskInstance).values(state="running"))  # the scheduler was lost, the new try has begun
    assert [scanned.reason for scanned in scan()] == [reason]


def test_reading_alone_notes_no_clear(tables, task_states) -> None:
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from sqlalchemy import select

    insert_task(tables, "restarting")
    assert [scanned.reason for scanned in scan(note_clears=False)] == [None]
    with tables() as session:
        kept = {key: json.loads(value) for key, value in session.execute(select(Stored.key, Stored.value))}
    assert kept == task_states


@pytest.mark.parametrize(
    ("state", "reason"), [("success", EndReason.FINISHED), ("removed", EndReason.FINISHED), (None, None)]
)
def test_states_of_tasks(tables, task_states, state, reason) -> None:
    insert_task(tables, state)
    assert [scanned.reason for scanned in scan()] == [reason]


def test_a_task_instance_that_is_no_longer_there(tables, task_states) -> None:
    assert [scanned.reason for scanned in scan()] == [EndReason.DELETED]


def test_a_value_of_a_state_store_backend_of_the_users_own_is_passed_over(tables) -> None:
    from airflow.models.task_state_store import TaskStateStoreModel as Stored

    with tables() as session:
        task = {"dag_id": "dag", "task_id": "job", "run_id": "run", "map_index": -1}
        session.add(Stored(**task, dag_run_id=1, key="firecrest_jobs", value='{"__ref__": "elsewhere"}'))
    insert_task(tables, "restarting")
    assert scan() == []
