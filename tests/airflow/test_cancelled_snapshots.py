"""A job that was cancelled with its task is not shown as one that runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_firecrest.airflow_internals import StoredValue
from airflow_provider_firecrest.cancel_policy import EndReason
from airflow_provider_firecrest.cancellation.cancelled_snapshots import show_cancelled
from airflow_provider_firecrest.cancellation.scan import ScannedRecord
from airflow_provider_firecrest.job_records import JobRecord
from airflow_provider_firecrest.job_snapshots import SNAPSHOT_KEY
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.snapshot import HistoryLine, JobSnapshot
from firecrest_core.states import JobState

OLD = datetime(2026, 1, 1, tzinfo=UTC)
RUNNING = JobSnapshot(
    job_id="57",
    system="daint",
    state=JobState.RUNNING,
    submitted_at=1.0,
    started_at=2,
    elapsed=9,
    time_limit=600,
    seen_at=11.0,
    history=(HistoryLine(1.0, "submitted"),),
    signature="signed",
)


@pytest.fixture
def xcoms(tables: Callable[[], Any]) -> Callable[..., dict[str, tuple[Any, bool]]]:
    """Store XComs of a task, let a record of it be shown as cancelled, and return them, with whether they are new."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import insert, select

    def xcoms(values: dict[str, Any], *job_ids: str, map_index: int = -1) -> dict[str, tuple[Any, bool]]:
        row = {"dag_run_id": 1, "dag_id": "dag", "run_id": "run", "task_id": "job", "map_index": -1, "timestamp": OLD}
        with tables() as session:
            XComModel.__table__.create(session.connection())
            for key, value in values.items():
                session.execute(insert(XComModel).values(**row, key=key, value=value))
        stored = StoredValue(1, "firecrest_jobs", "{}", (1, "run"), "dag", "job", map_index, True, "failed", 0)
        jobs = [Job(system="daint", job_id=one).to_dict() for one in job_ids]
        record = ScannedRecord(stored, JobRecord("conn", 0, jobs), EndReason.FINISHED)
        asyncio.run(show_cancelled([record]))
        with tables() as session:
            found = session.execute(select(XComModel.key, XComModel.value, XComModel.timestamp))
            return {key: (value, stamp > OLD) for key, value, stamp in found}

    return xcoms


@pytest.mark.parametrize("job_id", ["57", ""])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_job_that_ran_is_shown_as_cancelled_with_how_it_was_seen_last(xcoms, job_id, as_text) -> None:
    value = RUNNING.to_dict()
    [(shown, is_new)] = xcoms({SNAPSHOT_KEY: json.dumps(value) if as_text else value}, job_id).values()
    assert isinstance(shown, str) is as_text
    job = JobSnapshot.from_dict(json.loads(shown) if as_text else shown)
    assert is_new  # the page reads what is newer
    assert (job.state, job.reason) == (JobState.CANCELLED, "with its task; RUNNING when last seen")
    assert job.history[0] == RUNNING.history[0]
    assert "the job was cancelled. When last seen, it was RUNNING." in job.history[1].text
    assert (job.elapsed, job.seen_at, job.signature) == (600, 11.0, "signed")  # it may not have run any longer


def test_each_job_of_a_function_is_shown_as_cancelled(xcoms) -> None:
    two = RUNNING.to_dict() | {"job_id": "58", "state": "PENDING"}
    found = xcoms({f"{SNAPSHOT_KEY}.a": RUNNING.to_dict(), f"{SNAPSHOT_KEY}.b": two}, "57", "58")
    assert {value["state"] for value, _ in found.values()} == {"CANCELLED"}


@pytest.mark.parametrize(
    "value",
    [
        RUNNING.to_dict() | {"state": "COMPLETED"},
        RUNNING.to_dict() | {"job_id": "56"},
        RUNNING.to_dict() | {"system": "eiger"},
        RUNNING.to_dict() | {"state": "<b>"},
        RUNNING.to_dict() | {"history": 17},
        {"__airflow_xcom_ref__": "s3://bucket/key"},
        "text",
        None,
        [],
    ],
)
def test_anything_else_stays_as_it_is(xcoms, value) -> None:
    assert xcoms({SNAPSHOT_KEY: value}, "57") == {SNAPSHOT_KEY: (value, False)}


def test_another_key_and_another_task_stay_as_they_are(xcoms) -> None:
    values = {"job": RUNNING.to_dict(), f"{SNAPSHOT_KEY}s": RUNNING.to_dict()}
    assert xcoms(values, "57") == {key: (value, False) for key, value in values.items()}


def test_another_element_stays_as_it_is(xcoms) -> None:
    values = {SNAPSHOT_KEY: RUNNING.to_dict()}
    assert xcoms(values, "57", map_index=3) == {SNAPSHOT_KEY: (values[SNAPSHOT_KEY], False)}
