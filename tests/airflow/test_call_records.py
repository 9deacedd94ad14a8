"""What the reconciler makes of the records of jobs of a TaskFlow function, with Airflow's own tables."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_firecrest.cancellation import claim_remover
from airflow_provider_firecrest.cancellation.scan import note_clears
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from firecrest_core import lifecycle
from firecrest_core.jobs.job import Job
from firecrest_core.states import JobState
from tests.accounting import accounted
from tests.airflow.reconciling import reconcile, scan

TASK = {"dag_id": "dag", "task_id": "task", "run_id": "run", "map_index": -1}


class Crash(Exception):
    """What goes wrong in a function."""


class Airflow:
    """Airflow's tables with one task in them."""

    def __init__(self, tables: Callable[[], Any]) -> None:
        self._tables = tables

    def store(self, ti: Any, state: str) -> None:
        """Write a task with its values."""
        from airflow.models.dagrun import DagRun
        from airflow.models.task_state_store import TaskStateStoreModel
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import delete, insert

        row = {"id": uuid.uuid4(), "state": state, "max_tries": ti.max_tries, "pool_slots": 1, "pool": "default_pool"}
        with self._tables() as session:
            for table in (DagRun, TaskInstance, TaskStateStoreModel):
                session.execute(delete(table))
            session.execute(insert(TaskInstance).values(**TASK, **row))
            for key, value in ti.state_store.items():
                session.add(TaskStateStoreModel(**TASK, dag_run_id=1, key=key, value=value))

    def values(self) -> dict[str, str]:
        """Read the task's values."""
        from airflow.models.task_state_store import TaskStateStoreModel
        from sqlalchemy import select

        with self._tables() as session:
            return dict(session.execute(select(TaskStateStoreModel.key, TaskStateStoreModel.value)).all())


@pytest.fixture
def airflow(connected: Any, tables: Callable[[], Any]) -> Airflow:
    return Airflow(tables)


@pytest.fixture
def crashed(airflow: Airflow, run_function: Callable[..., Any], ti: Any, workdir: Path) -> list[Job]:
    """Two jobs that wait for a file, of a function that has failed."""
    jobs = []

    def function() -> None:
        hook = FirecRESTHook()
        jobs.extend(
            hook.submit_job(command=f"touch began-{name}; sleep 300", working_dir=str(workdir)) for name in "ab"
        )
        raise Crash

    with pytest.raises(Crash):
        run_function(function, ti)
    return jobs


def states(jobs: list[Job]) -> list[JobState]:
    return [FirecRESTHook().wait_for_job(job, poll_interval=0.2, check=False).state for job in jobs]


def test_a_task_that_has_failed_for_good_has_no_jobs(airflow, crashed, ti) -> None:
    airflow.store(ti, "up_for_retry")
    assert [one.reason for one in scan()] == [None, None]
    airflow.store(ti, "failed")
    reconcile()
    # One that had not begun finds its claim cancelled and runs nothing.
    assert set(states(crashed)) <= {JobState.CANCELLED, JobState.COMPLETED}
    assert not [key for key in airflow.values() if key.startswith("firecrest_jobs.")]


def test_a_clear_that_airflow_forgets_is_noted(airflow, crashed, ti, run_function, workdir) -> None:
    airflow.store(ti, "restarting")
    note_clears()
    kept = {key: json.loads(value) for key, value in airflow.values().items()}
    assert len(kept) == 4
    assert kept["firecrest_calls"]["max_tries"] is None
    ti.state_store.update(airflow.values())
    hook = FirecRESTHook()
    run_function(lambda: hook.submit_job(command="true", working_dir=str(workdir)), replace(ti, try_number=2))
    assert json.loads(ti.state_store["firecrest_calls"])["epoch"] == 1
    assert set(states(crashed)) <= {JobState.CANCELLED, JobState.COMPLETED}


def test_claims_are_removed_when_the_task_is_over(airflow, run_function, ti, workdir, monkeypatch) -> None:
    monkeypatch.setattr(lifecycle, "SETTLED_AFTER", 0.0)
    monkeypatch.setattr(claim_remover, "INTERVAL", 0.0)
    hook = FirecRESTHook()

    def function() -> None:
        for number in range(2):
            job = hook.submit_job(script=f"#!/bin/bash\n#SBATCH -o /dev/null\n: {number}\n", working_dir=str(workdir))
            hook.wait_for_job(job, poll_interval=0.2)

    run_function(function, ti)
    asyncio.run(accounted(hook.connection(), workdir))
    assert len([path for path in (workdir / ".firecrest").iterdir() if path.is_dir()]) == 2
    airflow.store(ti, "success")
    reconcile(lambda: None)
    assert not [path for path in (workdir / ".firecrest").iterdir() if path.is_dir()]
    shown = ("firecrest_call_list", "firecrest_ended")  # the latter is for the page of jobs
    assert {key: json.loads(value) for key, value in airflow.values().items() if key not in shown} == {
        "firecrest_calls": {}
    }
