"""The jobs of tasks that have ended are ended, with the database's answers given; the e2e tests have a real one."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider_firecrest import sweeper
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.ledger import Entry
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from airflow_provider_firecrest.plugins import listener
from airflow_provider_firecrest.sweeper import Seen, Sweeper
from firecrest_core.states import JobState


class Database:
    """What the sweeper reads and writes."""

    def __init__(self, *seen: Seen) -> None:
        self.seen = list(seen)
        self.deleted: set[tuple[int, str]] = set()
        self.erased: list[Seen] = []


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    monkeypatch.setattr(sweeper, "look", lambda **_: list(database.seen))
    monkeypatch.setattr(sweeper, "_deleted", lambda runs: runs & database.deleted)
    monkeypatch.setattr(sweeper, "_erase", database.erased.append)
    return database


@pytest.fixture
def job(connected, workdir: Path, ti: Any) -> tuple[str, Seen]:
    """A job that waits, and what its task has written down."""
    context = {"ti": ti, "task_state_store": ti.state_store}
    task = FirecRESTSubmitOperator(task_id="job", script="#!/bin/bash\nsleep 60\n", working_dir=str(workdir))
    with pytest.raises(TaskDeferred):
        task.execute(context)
    entry = Entry.of(context)
    assert entry is not None
    return ti.pushed["job_id"], Seen((1, "entry"), (1, "run"), "Task dag.job of run", entry, None)


def sweep(*acts: Callable[[], None]) -> Sweeper:
    """Sweep once, and once more after each act."""
    one = Sweeper()

    async def run() -> None:
        for act in (lambda: None, *acts):
            act()
            await one.sweep()
            await one.settled()

    asyncio.run(run())
    return one


def is_cancelled(job_id: str) -> bool:
    hook = FirecRESTHook()
    if hook.job(job_id).state is JobState.RUNNING:
        return False
    return hook.wait(job_id, poll_interval=0.2, check=False).state is JobState.CANCELLED


def test_the_job_of_a_task_that_goes_on_is_left_alone(job, database) -> None:
    job_id, seen = job
    database.seen = [seen]
    sweep(lambda: None)
    assert not is_cancelled(job_id)
    FirecRESTHook().cancel(job_id)


def test_the_job_of_a_task_that_has_ended_is_ended_and_forgotten(job, database) -> None:
    job_id, seen = job
    database.seen = [replace(seen, why="has ended (failed)")]
    sweep()
    assert is_cancelled(job_id)
    assert database.erased == database.seen


def test_a_cleared_tasks_new_try_still_finds_what_to_wait_for(job, database) -> None:
    job_id, seen = job
    database.seen = [replace(seen, why=sweeper.CLEARED)]
    sweep()
    assert is_cancelled(job_id)
    assert database.erased == []


def test_the_job_of_a_run_that_was_deleted(job, database) -> None:
    job_id, seen = job
    database.seen = [seen]

    def delete() -> None:
        database.seen, database.deleted = [], {seen.dag_run}

    sweep(delete)
    assert is_cancelled(job_id)


def test_a_run_that_is_marked_is_followed_for_a_while(job, database, monkeypatch) -> None:
    """As the API server does, which hears of the mark and not of the delete after it."""
    job_id, seen = job
    monkeypatch.setattr(sweeper, "INTERVAL", 0.1)
    monkeypatch.setattr(sweeper, "_FOLLOWED", 2.0)
    monkeypatch.setattr(listener, "_started", False)
    database.seen = [seen]
    listener.on_dag_run_failed()
    database.deleted = {seen.dag_run}
    database.seen = []
    thread = sweeper._follower
    listener.on_dag_run_success()
    assert sweeper._follower is thread  # one is enough
    thread.join(60)
    assert not thread.is_alive()
    assert is_cancelled(job_id)


def test_what_is_remembered_outlives_a_look_that_fails(job, database, monkeypatch) -> None:
    job_id, seen = job
    database.deleted = {seen.dag_run}
    one = Sweeper()
    one.remember([seen])

    async def run() -> None:
        with monkeypatch.context() as away, pytest.raises(OSError):
            away.setattr(sweeper, "look", lambda: (_ for _ in ()).throw(OSError("the database is away")))
            await one.sweep()
        await one.sweep()
        await one.settled()

    asyncio.run(run())
    assert is_cancelled(job_id)


def test_who_has_a_triggerer_to_look_does_not_follow(monkeypatch) -> None:
    """The scheduler tells its listeners of each run that ends; it must not get threads, since it forks."""
    from airflow.jobs.job import Job

    looked: list[None] = []
    monkeypatch.setattr(sweeper, "look", lambda: looked.append(None))
    monkeypatch.setattr(sweeper, "follow", lambda: pytest.fail("it follows"))
    monkeypatch.setattr(listener, "_started", False)
    listener.on_starting(object())  # a task
    assert not looked
    listener.on_starting(Job.__new__(Job))
    assert len(looked) == 1  # before the scheduler forgets a clear
    listener.on_dag_run_failed()


def test_an_entry_that_the_task_itself_erased(job, database) -> None:
    job_id, seen = job
    database.seen = [seen]
    sweep(database.seen.clear)
    assert not is_cancelled(job_id)
    FirecRESTHook().cancel(job_id)


def test_what_cannot_be_ended_is_told_and_tried_again(job, database, store, stored, monkeypatch, caplog) -> None:
    job_id, seen = job
    monkeypatch.setattr(sweeper, "_PAUSE_AFTER_FAILURE", 0.0)
    database.seen = [replace(seen, why="has ended (failed)")]
    store(stored | {"password": "wrong"})
    sweep(lambda: store(stored))
    assert (
        f"Task dag.job of run has ended (failed), but job {job_id} on {seen.entry.jobs[0]['system']} cannot be ended"
        in caplog.text
    )
    assert is_cancelled(job_id)
    assert database.erased == database.seen


@pytest.mark.parametrize(("state", "why"), [("running", None), ("restarting", sweeper.CLEARED)])
def test_a_clear_that_airflow_may_forget_is_noted(tables, state, why) -> None:
    """Of a task that is cleared while it runs, Airflow raises max_tries only once it hears of the worker's end."""
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import insert, select, update

    task = {"dag_id": "dag", "task_id": "job", "run_id": "run", "map_index": -1}
    notes = {
        "firecrest": {"nonce": "n", "epoch": 0, "max_tries": 2, "system": "s", "working_dir": "/w"},
        "firecrest_jobs": {"firecrest_conn_id": "firecrest_default", "max_tries": 2, "jobs": []},
    }
    with tables() as session:
        row = {"id": uuid.uuid4(), "state": state, "max_tries": 2, "pool_slots": 1, "pool": "default_pool"}
        session.execute(insert(TaskInstance).values(**task, **row))
        for key, value in notes.items():
            session.add(Stored(**task, dag_run_id=1, key=key, value=json.dumps(value)))
    assert [seen.why for seen in sweeper.look()] == [why]
    with tables() as session:
        kept = {key: json.loads(value) for key, value in session.execute(select(Stored.key, Stored.value))}
        assert kept == {key: note | {"max_tries": None if why else 2} for key, note in notes.items()}
        session.execute(update(TaskInstance).values(state="running"))  # the scheduler was lost, the new try has begun
    assert [seen.why for seen in sweeper.look()] == [why]
