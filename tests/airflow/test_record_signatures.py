"""Whoever edits what Airflow stores of a task reaches no job of anybody else, and a changed secret loses no job."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_provider_firecrest.cancellation import batches, claim_remover
from airflow_provider_firecrest.cancellation.reconciler import Reconciler
from airflow_provider_firecrest.cancellation.record_sources import WholeTable
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.job_records import JobRecord
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core import lifecycle
from firecrest_core.states import JobState
from tests.airflow.reconciling import reconcile

SLEEPING = "#!/bin/bash\necho $SLURM_JOB_ID >> runs\nsleep 60\n"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(lifecycle, "SETTLED_AFTER", 0.0)
    monkeypatch.setattr(claim_remover, "INTERVAL", 0.0)


class Airflow:
    """Tasks whose state stores are Airflow's own table."""

    def __init__(self, tables: Callable[[], Any], kind: type[Any], workdir: Path) -> None:
        self.tables, self.kind, self.workdir = tables, kind, workdir

    def begin(self, task_id: str, *, state: str = "deferred") -> Any:
        """Let a task submit a job that runs, and store what it stores."""
        ti = self.kind(task_id=task_id)
        submit(ti, self.workdir)
        until(lambda: FirecRESTHook().get_job(ti.pushed["job_id"]).state is JobState.RUNNING)
        self.store(ti, state)
        return ti

    def store(self, ti: Any, state: str) -> None:
        """Store a task with its state store, in place of what was there."""
        from airflow.models.task_state_store import TaskStateStoreModel as Stored
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import delete, insert

        task = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
        row = {"id": uuid.uuid4(), "state": state, "max_tries": ti.max_tries, "pool_slots": 1, "pool": "default_pool"}
        with self.tables() as session:
            for table in (TaskInstance, Stored):
                session.execute(delete(table).where(table.task_id == ti.task_id))
            session.execute(insert(TaskInstance).values(**task, **row))
            for key, value in ti.state_store.items():
                session.add(Stored(**task, dag_run_id=1, key=key, value=value))

    def records(self) -> list[str]:
        """The tasks that have a record."""
        from airflow.models.task_state_store import TaskStateStoreModel as Stored
        from sqlalchemy import select

        with self.tables() as session:
            return list(session.scalars(select(Stored.task_id).where(Stored.key == "firecrest_jobs")))


@pytest.fixture
def airflow(connected: Any, tables: Callable[[], Any], ti: Any, workdir: Path) -> Airflow:
    return Airflow(tables, type(ti), workdir)


def submit(ti: Any, workdir: Path, **changed: Any) -> None:
    arguments = {"script": SLEEPING, "working_dir": str(workdir), "poll_interval": 0.2} | changed
    with pytest.raises(TaskDeferred):
        FirecRESTSubmitOperator(task_id=ti.task_id, **arguments).execute(context(ti))


def context(ti: Any) -> Any:
    return {"ti": ti, "task_state_store": ti.state_store}


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(job_id: str) -> bool:
    return FirecRESTHook().get_job(job_id).state is JobState.RUNNING


def edit(ti: Any, key: str, **fields: Any) -> None:
    """Change fields of a value as Airflow's API does, which takes any JSON."""
    ti.state_store.set(key, ti.state_store.get(key) | fields)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [record for record in caplog.records if record.name.startswith("airflow_provider_firecrest.cancellation")]
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


# --- what the reconciler reads --------------------------------------------------------------------------------


def forged(airflow: Airflow, victim: Any, own: Any) -> dict[str, Any]:
    record = victim.state_store.get("firecrest_jobs")
    (job,) = record["jobs"]
    own_key = JobRecord.read(context(own)).jobs[0]["key"]
    return {
        "the job's id alone": record | {"jobs": [{**job, "key": None}], "signature": ""},
        "another task's record as it is": record,
        "the job's id in the own record": own.state_store.get("firecrest_jobs") | {"jobs": [{**job, "key": None}]},
        "the victim's key": own.state_store.get("firecrest_jobs") | {"jobs": [{**job, "job_id": ""}]},
        "the own key in another place": own.state_store.get("firecrest_jobs")
        | {"jobs": [{**job, "key": own_key, "working_dir": "/elsewhere"}]},
    }


@pytest.mark.parametrize(
    "how",
    [
        "the job's id alone",
        "another task's record as it is",
        "the job's id in the own record",
        "the victim's key",
        "the own key in another place",
    ],
)
def test_a_forged_record_cancels_nothing(airflow, how, caplog) -> None:
    victim, own = airflow.begin("victim"), airflow.begin("own", state="failed")
    own.state_store.set("firecrest_jobs", forged(airflow, victim, own)[how])
    airflow.store(own, "failed")
    reconcile(lambda: None)
    assert runs(victim.pushed["job_id"])
    assert runs(own.pushed["job_id"])
    (said,) = warnings(caplog)
    assert "dag.own of run is not signed with the present secret of the connection 'firecrest_default'" in said
    for ti in (victim, own):
        FirecRESTHook().cancel_job(ti.pushed["job_id"])


def claims(workdir: Path) -> int:
    return sum(path.name == "claim" for path in workdir.rglob("*"))  # links to what does not exist


def test_a_forged_record_of_ended_jobs_removes_no_claim(airflow, workdir) -> None:
    victim, own = airflow.begin("victim"), airflow.begin("own")
    record = victim.state_store.get("firecrest_jobs") | {"ended": True}
    until(lambda: claims(workdir) == 2)
    FirecRESTHook().cancel_job(victim.pushed["job_id"])
    until(lambda: FirecRESTHook().get_job(victim.pushed["job_id"]).state.ended)
    own.state_store.set("firecrest_jobs", record)
    airflow.store(own, "success")
    reconcile(lambda: None)
    assert claims(workdir) == 2
    assert "own" in airflow.records()
    FirecRESTHook().cancel_job(own.pushed["job_id"])


def test_a_secret_that_is_changed_while_the_triggerer_lives_changes_nothing(airflow, connected, store, stored) -> None:
    ti = airflow.begin("task")

    def rotate_and_fail() -> None:
        connected.issuer.rotate()
        store(stored | {"password": connected.client_secret})
        airflow.store(ti, "failed")

    reconcile(rotate_and_fail)
    assert not runs(ti.pushed["job_id"])
    assert airflow.records() == []


def test_a_secret_that_was_changed_before_the_triggerer_has_started(airflow, connected, store, stored, caplog) -> None:
    ti = airflow.begin("task")
    connected.issuer.rotate()
    store(stored | {"password": connected.client_secret})
    airflow.store(ti, "failed")
    reconcile(lambda: None, lambda: None)
    assert runs(ti.pushed["job_id"])
    assert len(warnings(caplog)) == 1
    FirecRESTHook().cancel_job(ti.pushed["job_id"])


def test_a_wrong_secret_that_is_mended_is_no_obstacle(airflow, store, stored) -> None:
    ti = airflow.begin("task")
    airflow.store(ti, "failed")
    store(stored | {"password": "wrong"})
    reconcile(lambda: store(stored))
    assert not runs(ti.pushed["job_id"])


def test_a_connection_that_cannot_be_loaded_does_not_stop_the_others(airflow) -> None:
    other, ti = airflow.begin("other"), airflow.begin("task")
    edit(other, "firecrest_jobs", firecrest_conn_id="nowhere")
    airflow.store(other, "failed")
    airflow.store(ti, "failed")
    reconcile()
    assert not runs(ti.pushed["job_id"])
    FirecRESTHook().cancel_job(other.pushed["job_id"])


def test_a_reconciler_that_has_seen_a_record_loads_its_connection_no_more(airflow, monkeypatch) -> None:
    from airflow_provider_firecrest.hooks import connection as stored_connection

    airflow.begin("task")
    loaded: list[str] = []
    load = stored_connection.load
    monkeypatch.setattr(stored_connection, "load", lambda conn_id, team: loaded.append(conn_id) or load(conn_id, team))
    one = Reconciler(WholeTable())

    async def rounds() -> None:
        for _ in range(3):
            await one.reconcile_once()

    asyncio.run(rounds())
    assert loaded == ["firecrest_default"]


BROKEN = [
    "null",
    "[]",
    "7",
    '{"firecrest_conn_id": "firecrest_default", "max_tries": 0, "jobs": null}',
    '{"firecrest_conn_id": "firecrest_default", "max_tries": 0, "jobs": [7]}',
    '{"firecrest_conn_id": "firecrest_default", "max_tries": 0, "jobs": [{"job_id": "57"}]}',
    '{"firecrest_conn_id": "firecrest_default", "max_tries": 0, "jobs": [{"system": 1, "job_id": "57"}]}',
    '{"firecrest_conn_id": ["firecrest_default"], "max_tries": 0, "jobs": []}',
    '{"firecrest_conn_id": "firecrest_default", "max_tries": "x", "jobs": [], "ended": 3}',
    '{"firecrest_conn_id": "c", "max_tries": 0, "jobs": [{"system": "s", "job_id": "1", "key": "hunter2"}]}',
    '{"firecrest_conn_id": "firecrest_default", "max_tries": 0, "jobs": [{"system": "s", "job_id": "1", '
    '"key": {"identity": "../hunter2", "epoch": 0}}]}',
]


@pytest.mark.parametrize("value", BROKEN)
def test_a_broken_record_is_one_clear_error(value: str) -> None:
    with pytest.raises(ValueError) as error:
        JobRecord.parse(value)
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", BROKEN)
def test_a_broken_record_does_not_stop_the_others(airflow, value) -> None:
    broken, ti = airflow.begin("broken"), airflow.begin("task")
    broken.state_store["firecrest_jobs"] = value
    airflow.store(broken, "failed")
    airflow.store(ti, "failed")
    reconcile()
    assert not runs(ti.pushed["job_id"])
    FirecRESTHook().cancel_job(broken.pushed["job_id"])


# --- what the task's own next try reads --------------------------------------------------------------------------


def test_a_secret_that_is_changed_between_two_tries_begins_no_second_job(airflow, connected, store, stored) -> None:
    ti = airflow.begin("task")
    connected.issuer.rotate()
    store(stored | {"password": connected.client_secret})
    ti.try_number += 1
    first = ti.pushed.pop("job_id")
    submit(ti, airflow.workdir)
    assert ti.pushed["job_id"] == first
    until((airflow.workdir / "runs").exists)
    assert (airflow.workdir / "runs").read_text().split() == [first]
    FirecRESTHook().cancel_job(first)


@pytest.mark.parametrize("field", ["system", "working_dir"])
def test_a_place_that_somebody_has_edited_is_refused(airflow, field, requests) -> None:
    ti = airflow.begin("task")
    edit(ti, "firecrest", **{field: "/elsewhere"})
    requests.clear()
    with pytest.raises(AirflowFailException, match="not signed with the present secret"):
        FirecRESTSubmitOperator(task_id="task", script=SLEEPING, working_dir=str(airflow.workdir)).execute(context(ti))
    assert requests == {}
    FirecRESTHook().cancel_job(ti.pushed["job_id"])


def test_a_place_that_an_earlier_try_has_stored_is_kept(airflow) -> None:
    ti = airflow.begin("task")
    first = ti.pushed.pop("job_id")
    submit(ti, airflow.workdir / "elsewhere")  # the DAG was edited
    assert ti.pushed["job_id"] == first
    FirecRESTHook().cancel_job(first)


@pytest.mark.parametrize(
    "value",
    [
        [],
        0,
        "text",
        {"nonce": "0" * 16},
        {"nonce": None},
        {"nonce": "not sixteen hexadecimal digits"},
        {"epoch": -1},
        {"epoch": 10**40},
        {"epoch": "0"},
        {"epoch": 0.5},
        {"max_tries": []},
        {"system": ""},
        {"system": None},
        {"working_dir": "relative"},
        {"working_dir": 7},
    ],
)
def test_a_broken_identity_is_one_clear_error(connected, ti, workdir, value, requests) -> None:
    right = {"nonce": "0" * 16, "epoch": 0, "max_tries": 0, "system": connected.system, "working_dir": str(workdir)}
    broken = right | value if isinstance(value, dict) and len(value) == 1 and "nonce" not in value else value
    ti.state_store.set("firecrest", broken)
    with pytest.raises(AirflowFailException, match="was not written by this provider") as error:
        FirecRESTSubmitOperator(task_id="task", script=SLEEPING, working_dir=str(workdir)).execute(context(ti))
    assert "delete that entry" in str(error.value)
    assert requests == {}


@pytest.mark.parametrize("changed", ["secret", "record"])
def test_a_cleared_task_ends_its_own_job_without_a_record_to_believe(
    airflow, connected, store, stored, changed, task_log
) -> None:
    victim, ti = airflow.begin("victim"), airflow.begin("task")
    first = ti.pushed.pop("job_id")
    if changed == "secret":
        connected.issuer.rotate()
        store(stored | {"password": connected.client_secret})
    else:
        ti.state_store.set("firecrest_jobs", victim.state_store.get("firecrest_jobs"))
    ti.max_tries += 1
    submit(ti, airflow.workdir)
    assert FirecRESTHook().get_job(first).state is JobState.CANCELLED
    assert ti.pushed["job_id"] != first
    assert runs(victim.pushed["job_id"])
    assert "the record of its earlier jobs is ignored" in task_log()
    for job_id in (victim.pushed["job_id"], ti.pushed["job_id"]):
        FirecRESTHook().cancel_job(job_id)


@pytest.mark.parametrize("value", [7, [], {"jobs": None}])
def test_a_cleared_task_ignores_a_broken_record(airflow, value, task_log) -> None:
    ti = airflow.begin("task")
    first = ti.pushed.pop("job_id")
    ti.state_store.set("firecrest_jobs", value)
    ti.max_tries += 1
    submit(ti, airflow.workdir)
    assert FirecRESTHook().get_job(first).state is JobState.CANCELLED
    assert "it cannot be read" in task_log()
    FirecRESTHook().cancel_job(ti.pushed["job_id"])


def test_nothing_that_is_stored_holds_the_secret(airflow, connected) -> None:
    ti = airflow.begin("task")
    assert connected.client_secret not in json.dumps(ti.state_store)
    FirecRESTHook().cancel_job(ti.pushed["job_id"])
