"""The metrics of a job in a real store of MLflow."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from firecrest_core.jobs.job import Job
from firecrest_core.metrics import MetricRow
from firecrest_core.mlflow_run import MLflowRun
from firecrest_core.states import JobState

JOB = Job(system="daint", job_id="57", name="train")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A store in a directory: the client alone needs no server."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowClient(f"file://{tmp_path}/store")


def runs(store: MlflowClient) -> list[Any]:
    experiment = store.get_experiment_by_name("digits")
    assert experiment is not None
    return list(store.search_runs([experiment.experiment_id]))


def row(line: int, step: float, **values: float) -> MetricRow:
    return MetricRow(line, step, values)


def new_run(store: MlflowClient) -> MLflowRun:
    return MLflowRun(store.tracking_uri, "digits", JOB, {"dag_id": "train"})


async def test_a_training_is_a_run(store: MlflowClient) -> None:
    run = new_run(store)
    await run.log([row(1, 1, loss=0.5), row(2, 2, **{"loss": 0.25, "accuracy %": 90})])
    [live] = runs(store)
    assert (live.info.status, live.info.run_name) == ("RUNNING", "train 57")
    assert live.data.tags["dag_id"] == "train"
    assert live.data.metrics == {"loss": 0.25, "accuracy _": 90}
    assert [point.step for point in store.get_metric_history(live.info.run_id, "loss")] == [1, 2]
    await run.end(JobState.COMPLETED)
    assert runs(store)[0].info.status == "FINISHED"


@pytest.mark.parametrize(
    ("state", "status"), [(JobState.FAILED, "FAILED"), (JobState.TIMEOUT, "FAILED"), (JobState.CANCELLED, "KILLED")]
)
async def test_how_it_ended(store: MlflowClient, state: JobState, status: str) -> None:
    run = new_run(store)
    await run.end(state)
    assert [one.info.status for one in runs(store)] == [status]


async def test_another_process_goes_on_with_the_run(store: MlflowClient) -> None:
    rows = [row(step, step, loss=1 / step) for step in range(1, 5)]
    await new_run(store).log(rows[:2])
    again = new_run(store)  # reads the file from its beginning
    await again.log(rows[:3])
    await again.log(rows[3:])
    [one] = runs(store)
    assert [point.step for point in store.get_metric_history(one.info.run_id, "loss")] == [1, 2, 3, 4]


async def test_what_is_not_finite(store: MlflowClient) -> None:
    await new_run(store).log([row(1, math.inf, loss=math.nan)])
    assert math.isnan(runs(store)[0].data.metrics["loss"])


async def test_an_mlflow_that_does_not_answer_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = MLflowRun("http://me:very-secret@127.0.0.1:9", "digits", JOB)
    with caplog.at_level(logging.INFO, logger="firecrest_core.mlflow_run"):
        await run.log([row(1, 1, loss=0.5)])
        await run.log([row(2, 2, loss=0.5)])
    [line] = [record.getMessage() for record in caplog.records if record.name == "firecrest_core.mlflow_run"]
    assert line.startswith("MLflow (127.0.0.1) does not take the metrics of Job 57 (train), which goes on: ")
    assert "very-secret" not in caplog.text + repr(run)


async def test_what_was_not_taken_is_sent_later(store: MlflowClient, mocker: Any) -> None:
    run = new_run(store)
    refused = mocker.patch.object(MlflowClient, "log_batch", side_effect=OSError)
    await run.log([row(1, 1, loss=0.5)])
    mocker.stop(refused)
    await run.log([row(2, 2, loss=0.25)])
    [one] = runs(store)
    assert [point.step for point in store.get_metric_history(one.info.run_id, "loss")] == [1, 2]


async def test_without_the_client_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.entities", None)
    await MLflowRun("http://mlflow.example.org", "digits", JOB).log([row(1, 1, loss=0.5)])
    assert "firecrest-workflows[mlflow]" in caplog.text
