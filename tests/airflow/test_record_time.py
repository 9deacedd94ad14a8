"""A task records its job at the last moment before the job can exist, and not before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, TaskDeferred

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.job_records import JobRecord
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core.api.client import System

SLEEPING = "#!/bin/bash\nsleep 60\n"


def execute(ti: Any, workdir: Path, **changed: Any) -> None:
    arguments = {"script": SLEEPING, "working_dir": str(workdir), "poll_interval": 0.2} | changed
    FirecRESTSubmitOperator(task_id="task", **arguments).execute({"ti": ti, "task_state_store": ti.state_store})


def record(ti: Any) -> JobRecord | None:
    return JobRecord.read({"task_state_store": ti.state_store})


@pytest.fixture
def wrong(store: Callable[..., None], stored: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
    """Make something wrong, and return what the task asks for."""

    def wrong(what: str) -> dict[str, Any]:
        if what == "secret":
            store(stored | {"password": "wrong"})
        if what == "host":
            store(stored | {"host": "http://127.0.0.1:9"})
        return {
            "system": {"system": "nowhere"},
            "directory that is missing": {"working_dir": "/nowhere"},
            "directory outside of the file systems": {"working_dir": "/etc"},
            "script": {"script": None, "script_path": "/nowhere.sh"},
        }.get(what, {})

    return wrong


@pytest.mark.parametrize(
    "what",
    ["secret", "host", "system", "directory that is missing", "directory outside of the file systems", "script"],
)
def test_what_was_never_submitted_is_not_recorded(connected, workdir, ti, wrong, what) -> None:
    with pytest.raises(AirflowException):
        execute(ti, workdir, **wrong(what))
    assert record(ti) is None


def test_it_is_recorded_before_the_request_leaves(connected, workdir, ti, monkeypatch) -> None:
    recorded: list[JobRecord | None] = []
    submit_job = System.submit_job

    async def look(self: System, *arguments: Any, **more: Any) -> str:
        recorded.append(record(ti))
        return await submit_job(self, *arguments, **more)

    monkeypatch.setattr(System, "submit_job", look)
    with pytest.raises(TaskDeferred):
        execute(ti, workdir)
    (before,) = recorded
    assert before is not None
    assert before.jobs[0]["key"] == record(ti).jobs[0]["key"]
    FirecRESTHook().cancel_job(ti.pushed["job_id"])


def test_a_worker_that_dies_with_the_request_has_recorded_it(connected, workdir, ti, monkeypatch) -> None:
    class Killed(BaseException):
        pass

    submit_job = System.submit_job

    async def die(self: System, request: Any, **more: Any) -> str:
        await submit_job(self, request)
        raise Killed

    with monkeypatch.context() as killed, pytest.raises(Killed):
        killed.setattr(System, "submit_job", die)
        execute(ti, workdir)
    (job,) = record(ti).jobs
    assert job["job_id"] == ""
    with pytest.raises(TaskDeferred):
        execute(ti, workdir)
    FirecRESTHook().cancel_job(ti.pushed["job_id"])


@pytest.mark.parametrize("left", [True, False])
def test_a_job_that_is_found_again_is_recorded(connected, workdir, ti, left) -> None:
    with pytest.raises(TaskDeferred):
        execute(ti, workdir)
    first = record(ti)
    if not left:  # a worker that was stopped in the task's last try has let the job go
        ti.state_store.delete("firecrest_jobs")
    ti.try_number += 1
    with pytest.raises(TaskDeferred):
        execute(ti, workdir)
    assert [job["job_id"] for job in record(ti).jobs] == [job["job_id"] for job in first.jobs]
    FirecRESTHook().cancel_job(ti.pushed["job_id"])


def test_a_retry_that_does_not_get_through_keeps_the_record(connected, workdir, ti, store, stored, monkeypatch) -> None:
    with pytest.raises(TaskDeferred):
        execute(ti, workdir)
    first, job_id = record(ti), ti.pushed["job_id"]
    monkeypatch.setattr("firecrest_core.claims.protocol.FIRST_CONTACT_LIMIT", 0.0)
    store(stored | {"password": "wrong"})
    ti.try_number += 1
    with pytest.raises(AirflowException):
        execute(ti, workdir)
    assert record(ti) == first
    store(stored)
    FirecRESTHook().cancel_job(job_id)
