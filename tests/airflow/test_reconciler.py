"""The jobs of tasks that have ended are cancelled, with the database's answers given; the e2e tests have a real one."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Connection as AirflowConnection
from airflow.sdk.exceptions import AirflowNotFoundException, TaskDeferred

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import StoredValue
from airflow_provider_firecrest.cancel_policy import EndReason
from airflow_provider_firecrest.cancellation import batches, reconciler
from airflow_provider_firecrest.cancellation.reconciler import Reconciler, ReconcilerThread
from airflow_provider_firecrest.cancellation.scan import ScannedRecord
from airflow_provider_firecrest.cancellation.signatures import RecordSignatures
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.job_records import JobRecord
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core import pauses
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.states import JobState
from tests.airflow.reconciling import reconcile


class Database:
    """What the reconciler reads and writes."""

    remaining = 0.0

    def __init__(self) -> None:
        self.scanned: list[ScannedRecord] = []
        self.deleted_runs: set[tuple[int, str]] = set()
        self.deleted_values: list[StoredValue] = []
        self.shown_as_cancelled: list[StoredValue] = []
        self.away: set[str] = set()

    def read(self) -> list[ScannedRecord]:
        self._reach("read")
        return list(self.scanned)

    def existing_dag_runs(self, dag_runs: set[tuple[int, str]]) -> set[tuple[int, str]]:
        self._reach("existing_dag_runs")
        return dag_runs - self.deleted_runs

    def delete(self, values: list[StoredValue]) -> None:
        self._reach("delete")
        self.deleted_values += values

    def change_xcoms(self, tasks: list[StoredValue], key: str, change: Any) -> None:
        self._reach("change_xcoms")
        self.shown_as_cancelled += tasks

    def _reach(self, what: str) -> None:
        if what in self.away:
            raise OSError("the database is away\n[SQL: SELECT secret]")


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    monkeypatch.setattr(airflow_internals, "existing_dag_runs", database.existing_dag_runs)
    monkeypatch.setattr(airflow_internals, "delete_stored_values", database.delete)
    monkeypatch.setattr(airflow_internals, "change_xcoms", database.change_xcoms)
    return database


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of what pauses."""
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    for module in (pauses, batches):
        monkeypatch.setattr(module, "time", clock)
    return clock


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
    stored = StoredValue(
        1, "firecrest_jobs", "record", (1, "run"), "dag", "task", -1, True, "deferred", record.max_tries
    )
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
    reconcile(lambda: None, source=database)
    assert not is_cancelled(job_id)
    FirecRESTHook().cancel_job(job_id)


def test_the_job_of_a_task_that_has_ended_is_cancelled_and_its_record_deleted(job, database) -> None:
    job_id, scanned = job
    database.scanned = [failed(scanned)]
    reconcile(source=database)
    assert is_cancelled(job_id)
    assert database.deleted_values == database.shown_as_cancelled == [one.stored for one in database.scanned]


def test_a_job_is_cancelled_even_if_that_cannot_be_shown(job, database) -> None:
    job_id, scanned = job
    database.scanned = [failed(scanned)]
    database.away = {"change_xcoms"}
    reconcile(source=database)
    assert is_cancelled(job_id)
    assert database.deleted_values == [one.stored for one in database.scanned]


def test_a_cleared_tasks_new_try_still_finds_what_to_wait_for(job, database) -> None:
    job_id, scanned = job
    database.scanned = [replace(scanned, reason=EndReason.CLEARED)]
    reconcile(source=database)
    assert is_cancelled(job_id)
    assert database.deleted_values == database.shown_as_cancelled == []


def test_the_job_of_a_run_that_was_deleted(job, database) -> None:
    job_id, scanned = job
    database.scanned = [scanned]

    def delete() -> None:
        database.scanned, database.deleted_runs = [], {scanned.stored.dag_run}

    reconcile(delete, source=database)
    assert is_cancelled(job_id)


@pytest.mark.parametrize("broken", ["read", "existing_dag_runs"])
def test_what_is_remembered_outlives_a_database_that_is_away(job, database, broken) -> None:
    job_id, scanned = job
    database.deleted_runs = {scanned.stored.dag_run}
    one = Reconciler(database)
    one.remember([scanned])

    async def run() -> None:
        database.away = {broken}
        with pytest.raises(OSError):
            await one.reconcile_once()
        database.away.clear()
        await one.reconcile_once()
        await one.drain()

    asyncio.run(run())
    assert is_cancelled(job_id)


def run_thread(database: Database, monkeypatch: pytest.MonkeyPatch, rounds: list[Callable[[], Any]]) -> list[float]:
    """Run a reconciler's thread without waiting, and return its pauses."""
    slept: list[float] = []
    thread = ReconcilerThread(database)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        rounds.pop(0)()
        if not rounds:
            thread.until = 0.0

    # Of this module alone: the embedded server, in a thread of its own, must go on sleeping.
    monkeypatch.setattr(reconciler, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))
    thread.run()
    return slept


def test_a_database_that_is_away_is_said_once_and_asked_ever_more_seldom(database, clock, monkeypatch, caplog) -> None:
    caplog.set_level(logging.INFO)
    database.away = {"read"}
    failing = 10

    def pass_time() -> None:
        clock.now += 3600.0

    slept = run_thread(database, monkeypatch, [pass_time] * (failing - 1) + [database.away.clear, pass_time])
    assert slept[:failing] == [3.0, 6.0, 12.0, 24.0, 48.0, 96.0, 192.0, 300.0, 300.0, 300.0]
    records = [record for record in caplog.records if record.name == reconciler.log.name]
    assert [record.levelname for record in records] == ["WARNING", "INFO"]
    assert "cannot be read" in records[0].getMessage()
    assert "secret" not in caplog.text
    assert "can be read again" in records[1].getMessage()


def test_where_airflows_models_cannot_be_imported_it_says_so_once_and_ends(database, monkeypatch, caplog) -> None:
    monkeypatch.setattr(database, "read", lambda: __import__("airflow.models_that_a_remote_executor_has_not"))
    ReconcilerThread(database).run()
    [record] = [record for record in caplog.records if record.name == reconciler.log.name]
    assert record.levelname == "WARNING"
    assert record.exc_info is None
    assert "does not run here" in record.getMessage()


def test_a_record_that_the_task_itself_deleted(job, database) -> None:
    job_id, scanned = job
    database.scanned = [scanned]
    reconcile(database.scanned.clear, source=database)
    assert not is_cancelled(job_id)
    FirecRESTHook().cancel_job(job_id)


def test_what_cannot_be_cancelled_is_tried_again(job, database, clock, store, stored, caplog) -> None:
    caplog.set_level(logging.INFO)
    job_id, scanned = job
    database.scanned = [failed(scanned)]
    store(stored | {"login": "wrong"})

    def repair() -> None:
        store(stored)
        clock.now += batches.FIRST_PAUSE

    reconcile(repair, source=database)
    system = scanned.record.jobs[0]["system"]
    assert f"Task dag.task of run has ended (failed), but job {job_id} on {system} cannot be cancelled" in caplog.text
    assert "The connection 'firecrest_default' works again." in caplog.text
    assert f"Task dag.task of run has ended (failed): cancelled job {job_id} on {system}." in caplog.text
    assert is_cancelled(job_id)
    assert database.deleted_values == [one.stored for one in database.scanned]


def records_of(count: int, **changes: Any) -> list[ScannedRecord]:
    """Records of tasks that have failed, whose jobs are nowhere."""
    connection = FirecRESTHook().connection()
    found = []
    for number in range(count):
        key = {"identity": f"task-{number}", "epoch": 0, "generation": 0}
        job = {"system": "anywhere", "job_id": str(57 + number), "working_dir": "/nowhere", "key": key, **changes}
        task = ("dag", "run", "task", number)
        record = JobRecord("firecrest_default", 0, [Job.from_dict(job).to_dict()]).signed(connection, task)
        stored = StoredValue(number, "firecrest_jobs", "record", (1, "run"), "dag", "task", number, True, "failed", 0)
        found.append(ScannedRecord(stored, record, EndReason.FINISHED))
    return found


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def pass_a_day(clock: SimpleNamespace) -> list[Callable[[], None]]:
    """A day of looks, each minute one."""

    def pass_a_minute() -> None:
        clock.now += 60.0

    return [pass_a_minute] * 1440


@pytest.mark.parametrize("wrong", ["secret", "connection"])
def test_a_connection_that_fails_is_tried_once_for_a_hundred_tasks_and_ever_more_seldom(
    connected, database, clock, store, stored, monkeypatch, requests, caplog, wrong
) -> None:
    database.scanned = records_of(100)
    if wrong == "secret":
        store(stored | {"password": "wrong"})
        # The records were seen before the secret was changed.
        monkeypatch.setattr(RecordSignatures, "approve", lambda *_: True)
    else:
        monkeypatch.delenv("AIRFLOW_CONN_FIRECREST_DEFAULT")
    reconcile(*pass_a_day(clock), source=database)
    [error] = errors_in(caplog)
    assert "cannot be cancelled with the connection 'firecrest_default'; neither can the jobs of 99 other" in error
    # Each attempt asks for a token, which is refused, before it asks for the list.
    assert sum(requests.values()) == requests["GET jobs"] <= (30 if wrong == "secret" else 0)
    assert database.deleted_values == []


def test_a_system_that_is_not_there_does_not_stop_the_others(connected, job, database, clock, requests, caplog) -> None:
    job_id, scanned = job
    database.scanned = [*records_of(100), replace(failed(scanned), stored=replace(failed(scanned).stored, row=1000))]
    requests.clear()
    reconcile(*pass_a_day(clock), source=database)
    [error] = errors_in(caplog)
    assert "on anywhere; neither can the jobs of 99 other tasks" in error
    assert is_cancelled(job_id)
    assert [one.row for one in database.deleted_values] == [1000]
    assert requests["GET jobs"] < 40


def test_a_working_directory_outside_of_the_file_systems_is_said_once(
    connected, database, clock, requests, caplog
) -> None:
    database.scanned = records_of(1, system=connected.system, working_dir="/nowhere")
    reconcile(*pass_a_day(clock)[:600], source=database)
    assert len(errors_in(caplog)) == 1
    assert requests["GET jobs"] <= 2 * 15


def test_after_a_week_it_is_given_up_and_says_what_is_to_be_done(
    connected, database, clock, monkeypatch, caplog
) -> None:
    database.scanned = records_of(2, system="daint")
    database.scanned += records_of(1, system="daint", job_id="")
    database.scanned[2] = replace(database.scanned[2], stored=replace(database.scanned[2].stored, row=2))
    monkeypatch.delenv("AIRFLOW_CONN_FIRECREST_DEFAULT")

    def pass_six_hours() -> None:
        clock.now += 6 * 3600.0

    reconcile(*[pass_six_hours] * 60, source=database)
    first, last = errors_in(caplog)
    assert "is tried again for a week" in first
    assert "of 3 tasks could not be cancelled for a week" in last
    name = ClaimKey("task-0").job_name("")
    assert f"by hand what still runs: `scancel 57 58` on daint; on daint, jobs whose names end in {name}." in last
    assert {one.row for one in database.deleted_values} == {0, 1, 2}


def test_a_database_that_cannot_be_written_is_said_once_and_no_job_is_cancelled_twice(
    job, database, clock, requests, caplog
) -> None:
    job_id, scanned = job
    database.scanned, database.away = [failed(scanned)], {"delete"}
    requests.clear()

    def pass_a_minute() -> None:
        clock.now += 60.0

    reconcile(*[pass_a_minute] * 20, source=database)
    [warning] = errors_in(caplog)
    assert "cannot be written" in warning
    assert "secret" not in warning
    assert requests["GET jobs"] == 2
    assert is_cancelled(job_id)
    reconcile(database.away.clear, pass_a_minute, source=database)
    assert set(database.deleted_values) == {one.stored for one in database.scanned}


def test_two_hundred_tasks_that_end_together_share_two_lists(connected, workdir, database, requests) -> None:
    database.scanned = records_of(200, system=connected.system, working_dir=str(workdir))
    reconcile(source=database)
    assert requests["GET jobs"] == 2
    assert len(database.deleted_values) == 200


def test_the_jobs_of_a_team_are_cancelled_with_the_teams_connection(job, database, monkeypatch, stored, caplog) -> None:
    _, scanned = job
    database.scanned = [failed(scanned)]
    monkeypatch.setattr(airflow_internals, "teams_of", lambda dag_ids: dict.fromkeys(dag_ids, "physics"))
    asked: list[tuple[str, str]] = []

    def get(conn_id: str, team: str) -> Any:
        asked.append((conn_id, team))
        return AirflowConnection.from_json(json.dumps(stored), conn_id)

    monkeypatch.setattr(airflow_internals, "get_connection_of_team", get)
    monkeypatch.delenv("AIRFLOW_CONN_FIRECREST_DEFAULT")
    reconcile(source=database)
    assert set(asked) == {("firecrest_default", "physics")}
    assert [one.row for one in database.deleted_values] == [1]
    monkeypatch.undo()


def test_a_teams_connection_that_it_cannot_read_is_named(connected, database, clock, monkeypatch, caplog) -> None:
    database.scanned = records_of(3)
    monkeypatch.setattr(airflow_internals, "teams_of", lambda dag_ids: dict.fromkeys(dag_ids, "physics"))

    def get(*_: str) -> Any:
        raise AirflowNotFoundException("no")

    monkeypatch.setattr(airflow_internals, "get_connection_of_team", get)
    reconcile(*pass_a_day(clock), source=database)
    [error] = errors_in(caplog)
    assert "connection 'firecrest_default' of the team 'physics'" in error
    assert "finds no connection 'firecrest_default' that the team 'physics' can read" in error
