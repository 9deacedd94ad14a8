"""What is read of Airflow's tables, and how often: the whole table once a minute, else known and new records alone."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.cancel_policy import EndReason
from airflow_provider_firecrest.cancellation import pace, record_sources
from airflow_provider_firecrest.cancellation.pace import Pace
from airflow_provider_firecrest.cancellation.record_sources import MarkedRuns, WholeTable
from airflow_provider_firecrest.cancellation.scan import note_clears
from tests.airflow.reconciling import scan


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


def insert_task(tables: Callable[[], Any], state: str | None, **differs: Any) -> None:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import insert

    task = {"dag_id": "dag", "task_id": "job", "run_id": "run", "map_index": -1} | differs
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
    assert [scanned.reason for scanned in MarkedRuns().add(1, 0.0)] == [None]
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


def test_a_value_of_a_state_store_backend_of_the_users_own_is_passed_over(tables, caplog) -> None:
    from airflow.models.task_state_store import TaskStateStoreModel as Stored

    with tables() as session:
        task = {"dag_id": "dag", "task_id": "job", "run_id": "run", "map_index": -1}
        session.add(Stored(**task, dag_run_id=1, key="firecrest_jobs", value='{"__airflow_state_ref__": "elsewhere"}'))
    insert_task(tables, "restarting")
    assert scan() == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- records that cannot be read ---------------------------------------------------------------------


def record(**fields: Any) -> str:
    return json.dumps({"firecrest_conn_id": "x", "max_tries": 0, "jobs": []} | fields)


BROKEN = {
    "null": "null",
    "a list": "[]",
    "a number": "57",
    "no JSON": "{",
    "nested too deep": "[" * 5000 + "]" * 5000,
    "jobs: null": record(jobs=None),
    "jobs: a text": record(jobs="57"),
    "an unknown field": record(jobs=[{"job_id": "57", "password": "s3cret"}]),
    "a job without a system": record(jobs=[{"job_id": "57"}]),
    "a job of another type": record(jobs=[57]),
    "10 MB": json.dumps("s3cret" * 1_700_000),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("state", ["deferred", "restarting"])
def test_a_broken_record_does_not_stop_the_others_and_is_said_once(tables, task_states, caplog, broken, state) -> None:
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import update

    with tables() as session:
        task = {"dag_id": "dag", "task_id": "other", "run_id": "run", "map_index": 3}
        session.add(Stored(**task, dag_run_id=1, key="firecrest_jobs", value=BROKEN[broken]))
    insert_task(tables, "failed")
    insert_task(tables, state, task_id="other", map_index=3)
    source = WholeTable()
    for _ in range(3):
        assert [one.reason for one in source.read()] == [EndReason.FINISHED]
    with tables() as session:
        session.execute(update(TaskInstance).values(state="failed"))
    assert [one.reason for one in source.read()] == [EndReason.FINISHED]
    [warning] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "The record of the jobs of dag.other[3] of run cannot be read" in warning
    assert "s3cret" not in warning
    assert len(warning) < 500


# --- how much is read --------------------------------------------------------------------------------


@pytest.fixture
def statements(tables: Callable[[], Any]) -> Iterator[list[str]]:
    """The queries that are sent."""
    from sqlalchemy import event

    sent: list[str] = []
    with tables() as session:
        engine = session.get_bind()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def reads_whole_table(statements: list[str], tables: Callable[[], Any]) -> bool:
    """Ask SQLite whether one of these queries goes through all rows of the task state store."""

    def plan(statement: str) -> str:
        with tables() as session:
            cursor = session.connection().connection.cursor()
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", ["1"] * statement.count("?"))
            return " ".join(row[-1] for row in cursor.fetchall())

    return any("SCAN task_state_store" in plan(each) for each in list(statements) if "max(" not in each)


def test_between_two_full_looks_only_known_and_new_records_are_read(tables, task_states, statements) -> None:
    insert_task(tables, "deferred")
    source = WholeTable()
    assert len(source.read()) == 1
    assert reads_whole_table(statements, tables)
    statements.clear()
    for _ in range(3):
        assert len(source.read()) == 1
    assert not reads_whole_table(statements, tables)


@pytest.fixture
def no_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_sources, "_OVERLAP", 0)


def store_record(tables: Callable[[], Any], task_states: dict[str, Any], **differs: Any) -> None:
    from airflow.models.task_state_store import TaskStateStoreModel as Stored

    task = {"dag_id": "dag", "task_id": "job", "run_id": "run", "map_index": 5, "dag_run_id": 1}
    with tables() as session:
        row = {"key": "firecrest_jobs", "value": json.dumps(task_states["firecrest_jobs"])}
        session.add(Stored(**task | row | differs))


def test_what_changes_is_seen_at_the_next_look(tables, task_states, no_overlap) -> None:
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import delete, update

    insert_task(tables, "deferred")
    source = WholeTable()
    assert [one.reason for one in source.read()] == [None]
    store_record(tables, task_states)
    insert_task(tables, "deferred", map_index=5)
    assert [one.reason for one in source.read()] == [None, None]
    with tables() as session:
        session.execute(update(TaskInstance).where(TaskInstance.map_index == 5).values(state="failed"))
    assert {one.stored.map_index: one.reason for one in source.read()} == {-1: None, 5: EndReason.FINISHED}
    with tables() as session:
        ended = json.dumps(task_states["firecrest_jobs"] | {"ended": True})
        session.execute(update(Stored).where(Stored.map_index == 5).values(value=ended))
    assert {one.stored.map_index: one.over for one in source.read()} == {-1: False, 5: True}
    with tables() as session:
        session.execute(delete(Stored).where(Stored.map_index == 5))
    assert [one.stored.map_index for one in source.read()] == [-1]


def test_a_row_that_was_committed_late_is_seen_by_the_overlap_and_at_last_by_the_full_look(
    tables, task_states, no_overlap, monkeypatch
) -> None:
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(pace, "time", clock)
    store_record(tables, task_states, id=50, task_id="new")
    source = WholeTable()
    assert len(source.read()) == 2
    store_record(tables, task_states, id=40, task_id="late")
    assert len(source.read()) == 2
    monkeypatch.setattr(record_sources, "_OVERLAP", 1000)
    assert len(source.read()) == 3
    monkeypatch.setattr(record_sources, "_OVERLAP", 0)
    store_record(tables, task_states, id=30, task_id="very late")
    assert len(source.read()) == 3
    clock.now += 10 * record_sources.FULL_INTERVAL
    assert len(source.read()) == 4


def test_numbers_that_sqlite_uses_again(tables, task_states, no_overlap) -> None:
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from sqlalchemy import delete

    for number in range(50, 60):
        store_record(tables, task_states, id=number, task_id=f"{number}", key="another")
    source = WholeTable()
    source.read()
    with tables() as session:
        session.execute(delete(Stored).where(Stored.id >= 50))
    source.read()  # the highest number is lower now
    store_record(tables, task_states, id=51, task_id="new")
    assert {one.stored.task_id for one in source.read()} == {"job", "new"}


def test_a_look_at_marked_runs_reads_these_alone(tables, task_states, statements) -> None:
    store_record(tables, task_states, run_id="another", dag_run_id=2)
    insert_task(tables, "failed")
    source = MarkedRuns()
    statements.clear()
    assert source.read() == []
    assert statements == []
    [added] = source.add(1, 1e12)
    [read] = source.read()
    assert added == read
    assert read.stored.dag_run == (1, "run")
    assert not reads_whole_table(statements, tables)
    source.add(1, 0.0)  # its time is over
    assert source.read() == []


def test_a_component_that_starts_notes_clears_without_reading_the_whole_table(tables, task_states, statements) -> None:
    insert_task(tables, "restarting")
    statements.clear()
    note_clears()
    assert not reads_whole_table([each for each in statements if each.startswith("SELECT")], tables)
    [one] = scan()
    assert one.record.max_tries is None


def test_a_clear_is_noted_once(tables, task_states, statements) -> None:
    insert_task(tables, "restarting")
    source = WholeTable()
    for _ in range(3):
        assert [one.reason for one in source.read()] == [EndReason.CLEARED]
    assert sum(each.startswith("UPDATE task_state_store") for each in statements) <= 2  # the record and the identity


def test_a_database_that_cannot_be_written_does_not_keep_it_from_being_read(
    tables, task_states, monkeypatch, caplog
) -> None:
    def refuse(*_: Any, **__: Any) -> bool:
        raise OSError("attempt to write a readonly database\n[SQL: UPDATE secret]")

    monkeypatch.setattr(airflow_internals, "change_stored_values", refuse)
    insert_task(tables, "restarting")
    source = WholeTable()
    for _ in range(3):
        assert [one.reason for one in source.read()] == [None]
    [warning] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "cannot be written" in warning
    assert "secret" not in warning


# --- how often ---------------------------------------------------------------------------------------


def test_a_look_takes_a_two_hundredth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(pace, "time", clock)
    one = Pace(3.0)
    assert one.remaining == 0.0
    one.took(0.001)
    assert one.remaining == 3.0
    for _ in range(3):
        one.took(0.5)
    assert one.remaining == 100.0
    clock.now += 40.0
    assert one.remaining == 60.0


def test_a_look_that_had_to_wait_for_a_lock_does_not_delay_the_next_one() -> None:
    one = Pace(3.0)
    one.took(0.001)
    one.took(20.0)
    assert one.remaining <= 3.0


def test_a_first_look_that_is_slow_does_not_delay_the_next_one() -> None:
    """It imports and compiles what later ones have, and the machine may have been suspended meanwhile."""
    one = Pace(3.0)
    one.took(20.0)
    assert one.remaining <= 3.0
    one.took(20.0)
    assert one.remaining <= 3.0
    one.took(0.001)
    assert one.remaining <= 3.0
