"""What Airflow keeps of a job for its pages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_firecrest import job_snapshots
from airflow_provider_firecrest.job_snapshots import ENDED_KEY, SNAPSHOT_KEY, apush, keep_ended, push
from firecrest_core.jobs.snapshot import HistoryLine, JobSnapshot
from firecrest_core.states import JobState


def _ended(job_id: int, **fields: Any) -> JobSnapshot:
    line = HistoryLine(1.0, "it ended")
    return JobSnapshot(job_id=str(job_id), system="daint", state=JobState.FAILED, history=(line,), **fields)


def test_the_newest_snapshot_is_an_xcom_of_the_task(ti):
    push(ti, _ended(57))

    assert JobSnapshot.from_dict(ti.pushed[SNAPSHOT_KEY]) == _ended(57)


async def test_a_trigger_stores_the_same(ti, mocker):
    stored = mocker.patch.object(job_snapshots, "push_xcom")

    await apush(ti, _ended(57))

    stored.assert_awaited_once_with(ti, SNAPSHOT_KEY, _ended(57).to_dict())


def test_the_last_twenty_ended_jobs_outlive_the_try(ti):
    for number in range(25):
        keep_ended({"task_state_store": ti.state_store}, _ended(number))

    kept = [JobSnapshot.from_dict(one) for one in ti.state_store.get(ENDED_KEY)]
    assert [one.job_id for one in kept] == [str(number) for number in range(5, 25)]
    assert not any(one.history for one in kept)


def test_a_job_is_kept_once(ti):
    keep_ended({"task_state_store": ti.state_store}, _ended(57))
    keep_ended({"task_state_store": ti.state_store}, _ended(58))
    keep_ended({"task_state_store": ti.state_store}, _ended(57, exit_code=1))

    assert [(one["job_id"], one["exit_code"]) for one in ti.state_store.get(ENDED_KEY)] == [("58", None), ("57", 1)]


@pytest.mark.parametrize("edited", ["words", 7, {"job_id": "57"}, [None, "57", {"job_id": ["57"]}]])
def test_a_list_that_somebody_has_edited_does_no_harm(ti, edited):
    ti.state_store["firecrest_ended"] = json.dumps(edited)

    keep_ended({"task_state_store": ti.state_store}, _ended(57))

    assert ti.state_store.get(ENDED_KEY)[-1]["job_id"] == "57"


async def test_what_cannot_be_stored_is_left_out(ti, mocker):
    mocker.patch.object(type(ti), "xcom_push", side_effect=RuntimeError("no supervisor"))
    mocker.patch.object(job_snapshots, "push_xcom", side_effect=RuntimeError("no supervisor"))
    mocker.patch.object(type(ti.state_store), "get", side_effect=RuntimeError("no supervisor"))

    push(ti, _ended(57))
    await apush(ti, _ended(57))
    keep_ended({"task_state_store": ti.state_store}, _ended(57))
