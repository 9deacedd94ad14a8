"""A task whose job finds no room: the triggerer waits for it and submits, without a worker."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred
from airflow.sdk.module_loading import import_string
from pydantic import SecretStr

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.job_records import JobRecord
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core.encryption import encrypt
from firecrest_core.errors import SubmissionRejected
from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST, Plan, Settings

SCRIPT = "#!/bin/bash\necho $SECRET_VALUE $SLURM_JOB_ID >> runs\n"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    """A cluster that takes one job at a time."""
    root = tmp_path_factory.mktemp("full")
    with LocalFirecREST(Settings(root=root, max_submit_jobs=1, accounting_lag=0.2, faults=Plan())) as server:
        yield server


@pytest.fixture
def workdir(full: LocalFirecREST, store: Callable[..., None], tmp_path: Path, pushed: dict[str, Any]) -> Path:
    """A directory on that cluster, to which `firecrest_default` points."""
    extra = {"auth_url": full.token_url, "system": full.system}
    store(
        {
            "conn_type": "firecrest",
            "host": full.url,
            "login": full.client_id,
            "password": full.client_secret,
            "extra": extra,
        }
    )
    path = Path(full.home) / tmp_path.name
    path.mkdir()
    return path


@pytest.fixture
def occupied(workdir: Path) -> Iterator[Callable[[], None]]:
    """A job of the same user that takes the only place, until it is let go."""
    script = "#!/bin/bash\nuntil [ -e free ]; do sleep 0.05; done\n"
    job = FirecRESTHook().submit_job(script=script, working_dir=str(workdir))
    yield (workdir / "free").touch
    FirecRESTHook().cancel_job(job)


@pytest.fixture
def make(workdir: Path) -> Callable[..., FirecRESTSubmitOperator]:
    def make(**more: Any) -> FirecRESTSubmitOperator:
        job = {"environment": {"SECRET_VALUE": "hunter2"}}
        given = {"script": SCRIPT, "job": job, "working_dir": str(workdir), "poll_interval": 0.2} | more
        return FirecRESTSubmitOperator(task_id="job", **given)

    return make


def runs(workdir: Path) -> list[str]:
    return (workdir / "runs").read_text().splitlines() if (workdir / "runs").exists() else []


def later(act: Callable[[], None]) -> None:
    threading.Timer(2, act).start()


def deferred_trigger(make: Callable[[], FirecRESTSubmitOperator], ti: Any) -> Any:
    """The trigger of a task that has deferred, as the triggerer makes it."""
    with pytest.raises(TaskDeferred) as deferred:
        make().execute({"ti": ti, "task_state_store": ti.state_store})
    path, arguments = json.loads(json.dumps(deferred.value.trigger.serialize()))
    trigger = import_string(path)(**arguments)
    trigger.task_instance = ti
    return trigger


def test_the_triggerer_submits_when_there_is_room(workdir, make, occupied, run_task, pushed, task_log) -> None:
    run = run_task(make, when_deferred=lambda: later(occupied))
    assert len(run.deferrals) == 1
    assert run.result["state"] == "COMPLETED"
    assert runs(workdir) == [f"hunter2 {run.result['job_id']}"]
    assert pushed == {"job_id": run.result["job_id"]}
    log = task_log()
    assert "AssocMaxSubmitJobLimit is reached, so no further job is taken. The triggerer waits for room" in log
    assert log.count("was submitted to") == 2  # then, and in its history


def test_secrets_of_a_job_that_the_triggerer_submits(workdir, make, occupied, run_task) -> None:
    environment = {"SECRET_VALUE": SecretStr("hunter2-of-many")}
    run = run_task(lambda: make(environment=environment), when_deferred=lambda: later(occupied))
    assert runs(workdir) == [f"hunter2-of-many {run.result['job_id']}"]
    stored = json.dumps([run.deferrals[0].trigger.serialize(), run.deferrals[0].kwargs, run.events])
    assert "hunter2" not in stored
    assert not list(workdir.rglob("secrets-*"))


def test_secrets_that_cannot_be_read_any_more(make, occupied, ti, first_event, store, full) -> None:
    trigger = deferred_trigger(lambda: make(environment={"SECRET_VALUE": SecretStr("hunter2-of-many")}), ti)
    trigger.submission |= {"sealed_secrets": encrypt(SecretStr("{}"), SecretStr("an older one"), "secrets of a job")}
    event = asyncio.run(first_event(trigger))
    assert (event["status"], event["kind"]) == ("error", "TransientError")  # so the next try of the task submits it
    assert "client secret has changed since they were stored" in event["message"]


def test_a_worker_that_waits_itself(workdir, make, occupied, run_task) -> None:
    later(occupied)
    run = run_task(lambda: make(deferrable=False))
    assert not run.deferrals
    assert len(runs(workdir)) == 1


def test_without_a_claim_the_worker_waits_for_room(workdir, make, occupied, run_task) -> None:
    later(occupied)
    assert run_task(lambda: make(exactly_once=False)).result["state"] == "COMPLETED"
    assert len(runs(workdir)) == 1


def test_a_triggerer_that_goes_on_finds_the_job(workdir, make, occupied, ti, first_event) -> None:
    trigger = deferred_trigger(make, ti)
    occupied()
    first = asyncio.run(first_event(trigger))
    again = import_string(trigger.serialize()[0])(**deferred_arguments(trigger))
    again.task_instance = ti
    assert asyncio.run(first_event(again))["result"]["job_id"] == first["result"]["job_id"]
    assert len(runs(workdir)) == 1


def deferred_arguments(trigger: Any) -> dict[str, Any]:
    """The arguments that Airflow has stored: those of the moment in which the task has deferred."""
    key = trigger.job["key"]
    return trigger.serialize()[1] | {"job": trigger.job | {"job_id": "", "key": key | {"generation": 0}}}


def test_a_person_who_ends_the_task_withdraws_the_job(workdir, make, occupied, ti, monkeypatch, first_event) -> None:
    trigger = deferred_trigger(make, ti)
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    answer = {"run": {"task": "failed"}}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **asked: answer)
    asyncio.run(trigger.on_kill())
    occupied()
    event = asyncio.run(first_event(trigger))  # as if a late triggerer had not heard of it
    assert event["kind"] == "JobWithdrawn"
    assert runs(workdir) == []


def test_what_is_recorded_is_enough_to_cancel(make, occupied, ti) -> None:
    deferred_trigger(make, ti)
    record = JobRecord.read({"task_state_store": ti.state_store})
    assert record is not None
    (job,) = record.jobs
    assert (job["job_id"], job["key"]["epoch"]) == ("", 0)


def test_execution_timeout_holds_while_there_is_no_room(workdir, make, occupied, run_task, ti) -> None:
    with pytest.raises(AirflowTaskTimeout, match="job without an id yet"):
        run_task(lambda: make(execution_timeout=timedelta(seconds=2)))
    occupied()
    time.sleep(1)
    assert runs(workdir) == []


def test_a_job_that_the_triggerer_sees_refused(workdir, make, occupied, run_task) -> None:
    with pytest.raises(SubmissionRejected, match="Invalid partition"):
        # The embedded server counts jobs before it looks at the partition, as Slurm may.
        run_task(lambda: make(job={"partition": "nowhere"}), when_deferred=lambda: later(occupied))


def test_the_end_of_an_earlier_runs_job_is_not_this_ones(make, occupied, ti) -> None:
    trigger = deferred_trigger(make, ti)
    other = trigger.job | {"job_id": "99", "key": trigger.job["key"] | {"epoch": 7}}
    event = {"status": "success", "jobs": [other], "result": {"state": JobState.CANCELLED.value}}
    with pytest.raises(TaskDeferred) as again:
        make().execute_complete({"ti": ti, "task_state_store": ti.state_store}, event, list(trigger.serialize()))
    assert again.value.trigger.submission == trigger.submission


def test_logs_show_nothing_of_the_submission(make, occupied, ti) -> None:
    assert "hunter2" not in repr(deferred_trigger(make, ti))
