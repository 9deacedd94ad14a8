"""What Airflow keeps of a job for its pages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_firecrest import job_snapshots, newest_xcom
from airflow_provider_firecrest.identity import task_key
from airflow_provider_firecrest.job_snapshots import (
    ENDED_KEY,
    FOLLOWED_KEY,
    SNAPSHOT_KEY,
    NewestSnapshot,
    is_signed,
    keep_ended,
    push,
)
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core.connection import Connection
from firecrest_core.errors import JobFailed, JobStuck
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.snapshot import HistoryLine, JobSnapshot
from firecrest_core.states import JobState

CONNECTION = Connection(
    url="https://api.example.org", token_url="https://id.example.org", client_id="me", client_secret="secret"
)


async def load() -> Connection:
    return CONNECTION


def _keep(ti: Any, snapshot: JobSnapshot) -> None:
    keep_ended({"ti": ti, "task_state_store": ti.state_store}, snapshot, CONNECTION)


def _stored(value: dict[str, Any]) -> JobSnapshot:
    return replace(JobSnapshot.from_dict(value), signature="")


def _ended(job_id: int, **fields: Any) -> JobSnapshot:
    line = HistoryLine(1.0, "it ended")
    return JobSnapshot(job_id=str(job_id), system="daint", state=JobState.FAILED, history=(line,), **fields)


def test_the_newest_snapshot_is_an_xcom_of_the_task(ti):
    push(ti, _ended(57), CONNECTION)

    assert _stored(ti.pushed[SNAPSHOT_KEY]) == _ended(57)


async def test_a_trigger_stores_the_same(ti, mocker):
    stored = mocker.patch.object(newest_xcom, "push_xcom")
    newest = NewestSnapshot(ti, load)

    newest.show(_ended(57))
    await asyncio.sleep(0)
    await newest.finish()

    push(ti, _ended(57), CONNECTION)
    stored.assert_awaited_once_with(ti, SNAPSHOT_KEY, ti.pushed[SNAPSHOT_KEY])


@pytest.mark.parametrize(
    "edited",
    [{"stdout": "/users/other/.ssh/id_rsa"}, {"stderr": "/x"}, {"system": "eiger"}, {"connection_id": "other"},
     {"signature": ""}],
)  # fmt: skip
def test_where_the_output_is_cannot_be_edited(ti, edited):
    push(ti, _ended(57, connection_id="mine", stdout="/users/me/out", stderr="/users/me/err"), CONNECTION)
    stored = JobSnapshot.from_dict(ti.pushed[SNAPSHOT_KEY])

    assert is_signed(stored, CONNECTION, task_key(ti))
    assert not is_signed(replace(stored, **edited), CONNECTION, task_key(ti))
    assert not is_signed(stored, replace(CONNECTION, client_secret="another"), task_key(ti))
    assert not is_signed(stored, CONNECTION, ("dag", "run", "another task", -1))


def test_the_last_twenty_ended_jobs_outlive_the_try(ti):
    for number in range(25):
        _keep(ti, _ended(number))

    kept = [_stored(one) for one in ti.state_store.get(ENDED_KEY)]
    assert [one.job_id for one in kept] == [str(number) for number in range(5, 25)]
    assert not any(one.history for one in kept)


def test_a_job_is_kept_once(ti):
    _keep(ti, _ended(57))
    _keep(ti, _ended(58))
    _keep(ti, _ended(57, exit_code=1))

    assert [(one["job_id"], one["exit_code"]) for one in ti.state_store.get(ENDED_KEY)] == [("58", None), ("57", 1)]


@pytest.mark.parametrize("edited", ["words", 7, {"job_id": "57"}, [None, "57", {"job_id": ["57"]}]])
def test_a_list_that_somebody_has_edited_does_no_harm(ti, edited):
    ti.state_store["firecrest_ended"] = json.dumps(edited)

    _keep(ti, _ended(57))

    assert ti.state_store.get(ENDED_KEY)[-1]["job_id"] == "57"


async def test_what_cannot_be_stored_is_left_out(ti, mocker):
    mocker.patch.object(type(ti), "xcom_push", side_effect=RuntimeError("no supervisor"))
    mocker.patch.object(newest_xcom, "push_xcom", side_effect=RuntimeError("no supervisor"))
    mocker.patch.object(type(ti.state_store), "get", side_effect=RuntimeError("no supervisor"))

    push(ti, _ended(57), CONNECTION)
    newest = NewestSnapshot(ti, load)
    newest.show(_ended(57))
    await asyncio.sleep(0)
    await newest.finish()
    _keep(ti, _ended(57))


# --- in a task ----------------------------------------------------------------------------------------

both_ways = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])


def submit(workdir: Path, command: str, **more: Any) -> Callable[[], FirecRESTSubmitOperator]:
    return lambda: FirecRESTSubmitOperator(
        task_id="job", command=command, working_dir=str(workdir), poll_interval=0.2, **more
    )


@pytest.fixture
def snapshots(mocker) -> list[JobSnapshot]:
    """The snapshots that a task stores, by worker and trigger."""
    snapshots: list[JobSnapshot] = []

    def keep(ti: Any, snapshot: JobSnapshot, connection: Connection) -> None:
        snapshots.append(JobSnapshot.from_dict(snapshot.to_dict()))

    async def akeep(ti: Any, key: str, value: Any) -> None:
        if key == SNAPSHOT_KEY:
            snapshots.append(JobSnapshot.from_dict(value))

    for where in ("operators.job", "operators.job_story"):
        mocker.patch(f"airflow_provider_firecrest.{where}.push", keep)
    mocker.patch.object(newest_xcom, "push_xcom", akeep)
    return snapshots


@both_ways
def test_a_task_stores_each_change_of_its_job(connected, workdir, run_task, ti, snapshots, deferrable) -> None:
    run_task(submit(workdir, "sleep 2", deferrable=deferrable))

    states = [one.state for one in snapshots]
    assert (states[0], states[-1]) == (JobState.PENDING, JobState.COMPLETED)
    assert JobState.RUNNING in states
    assert len(snapshots) <= 8
    assert {(one.job_id, one.connection_id) for one in snapshots} == {(ti.pushed["job_id"], "firecrest_default")}
    end = snapshots[-1]
    assert None not in (end.started_at, end.ended_at, end.node_hours)
    assert (end.account, end.partition) != ("", "")
    ended, used = end.history[-2:]
    assert ended.text.startswith(f"Job {end.job_id} (dag.task) on {connected.system} ended COMPLETED")
    assert used.text.startswith(f"Job {end.job_id} (dag.task) used at least ")
    assert end.usage is not None
    assert [one["job_id"] for one in ti.state_store.get(ENDED_KEY)] == [end.job_id]


@both_ways
def test_the_tasks_own_log_ends_with_the_jobs_history(connected, workdir, run_task, task_log, deferrable) -> None:
    with pytest.raises(JobFailed):
        run_task(submit(workdir, "echo oh no >&2; exit 3", deferrable=deferrable))

    log = task_log()
    story = log[log.index("What happened to job") :]
    for words in ("was submitted to", "ended FAILED", "node hours.", f"Its output is in {workdir}/slurm-"):
        assert words in story


def test_a_job_that_can_never_start_is_told_before_the_error(connected, workdir, run_task, task_log) -> None:
    with pytest.raises(JobStuck):
        run_task(submit(workdir, "true", time_limit="2-00:00:00", fail_if_stuck=True))

    assert "What happened to job" in task_log()


def test_a_trigger_goes_on_with_the_history_that_is_stored(connected, workdir, run_task, snapshots, mocker) -> None:
    async def newest(ti: Any, key: str) -> Any:
        assert key == SNAPSHOT_KEY
        line = HistoryLine(1.0, "an earlier triggerer")
        return replace(snapshots[-1], history=(*snapshots[-1].history, line)).to_dict()

    mocker.patch.object(job_snapshots, "get_xcom", newest)
    run_task(submit(workdir, "true"))

    assert [line.text for line in snapshots[-1].history][1] == "an earlier triggerer"


def test_the_last_snapshot_is_the_workers(mocker, ti) -> None:
    """What the trigger has stored late must not arrive after it."""
    order: list[str] = []

    async def slow(ti: Any, key: str, value: Any) -> None:
        await asyncio.sleep(0)
        order.append(value["job_id"])

    async def wait() -> None:
        newest = NewestSnapshot(ti, load)
        for number in range(3):
            newest.show(_ended(number))
        await newest.finish()
        order.append("the end")

    mocker.patch.object(newest_xcom, "push_xcom", slow)
    asyncio.run(wait())

    assert order[-1] == "the end"
    assert len(order) <= 2


async def test_a_trigger_that_begins_again_finds_the_history_of_a_job_that_was_followed(ti, mocker) -> None:
    stored = {SNAPSHOT_KEY: _ended(58).to_dict(), f"{FOLLOWED_KEY}57": _ended(57).to_dict()}

    async def get(ti: Any, key: str) -> Any:
        return stored.get(key)

    mocker.patch.object(job_snapshots, "get_xcom", get)
    found = [await job_snapshots.aread(ti, Job(system="daint", job_id=job_id)) for job_id in ("57", "58", "59")]
    assert found == [_ended(57), _ended(58), None]
