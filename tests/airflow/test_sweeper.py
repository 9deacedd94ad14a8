"""The jobs of tasks that have ended are ended, with the database's answers given; the e2e tests have a real one."""

from __future__ import annotations

import asyncio
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
    monkeypatch.setattr(sweeper, "look", lambda: list(database.seen))
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
