"""The metrics of a training: in the task's log while it runs, in an XCom for its page, and in MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection as AirflowConnection
from mlflow import MlflowClient

from airflow_provider_firecrest import newest_xcom
from airflow_provider_firecrest.job_metrics import METRICS_KEY, tracking_uri
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core.errors import JobFailed
from firecrest_core.metrics import Metrics

TRAINING = """#!/bin/bash
echo '{"step": 1, "loss": 0.5}' > metrics.jsonl
until [ -e go ]; do sleep 0.1; done
echo '{"step": 2, "loss": 0.25, "note": "<b>"}' >> metrics.jsonl
"""

both_ways = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])


def train(workdir: Path, script: str = TRAINING, **more: Any) -> Callable[[], FirecRESTSubmitOperator]:
    more = {"metrics": "metrics.jsonl", "poll_interval": 0.2, **more}
    return lambda: FirecRESTSubmitOperator(task_id="job", script=script, working_dir=str(workdir), **more)


def points(value: dict[str, Any]) -> list[tuple[float, float]]:
    return Metrics.from_dict(value).series["loss"].points


@pytest.fixture
def kept(mocker: Any, ti: Any, workdir: Path) -> list[list[tuple[float, float]]]:
    """The points of the loss in each XCom; the training goes on when the first one is there."""
    kept: list[list[tuple[float, float]]] = []

    def keep(key: str, value: Any) -> None:
        json.dumps(value, allow_nan=False)
        ti.pushed[key] = value
        if key.startswith(METRICS_KEY):
            kept.append(points(value))
            (workdir / "go").touch()

    async def akeep(ti: Any, key: str, value: Any) -> None:
        keep(key, value)

    mocker.patch.object(ti, "xcom_push", keep)
    mocker.patch.object(newest_xcom, "push_xcom", akeep)
    return kept


@both_ways
def test_metrics_come_while_the_job_runs(connected, workdir, run_task, ti, kept, deferrable, task_log) -> None:
    run_task(train(workdir, deferrable=deferrable))
    assert kept[0] == [(1, 0.5)]
    assert kept[-1] == [(1, 0.5), (2, 0.25)]
    assert "metrics | loss 0.5 (step 1)" in task_log()
    assert "metrics | loss 0.25 (step 2)" in task_log()
    assert ti.pushed["firecrest_job"]["metrics"] == "loss 0.25 (step 2)"


def test_a_job_that_fails_keeps_its_metrics(connected, workdir, run_task, ti, kept) -> None:
    with pytest.raises(JobFailed):
        run_task(train(workdir, TRAINING + "exit 3\n"))
    assert kept[-1] == [(1, 0.5), (2, 0.25)]


def test_a_retry_reads_the_metrics_where_its_run_began(connected, workdir, run_task, ti, kept) -> None:
    began, other = workdir / "began", workdir / "other"
    for directory in (began, other):
        directory.mkdir()
    (workdir / "go").touch()
    script = TRAINING.replace("-e go", "-e ../go") + "[ -e ../mended ]\n"
    with pytest.raises(JobFailed):
        run_task(train(began, script))
    (workdir / "mended").touch()
    kept.clear()
    ti.try_number = 2
    run_task(train(other, script))  # its directory depends on the number of the try
    assert kept[-1] == [(1, 0.5), (2, 0.25)]


@pytest.mark.parametrize(
    ("written", "said"), [("", "there is no "), ("epoch 1\n", "holds no numbers"), ('{"loss": "NaN"}\n', "loss nan")]
)
def test_files_without_a_curve(connected, workdir, run_task, task_log, written, said) -> None:
    script = f"#!/bin/bash\nprintf '%s' '{written}' > metrics.jsonl\n" if written else "#!/bin/bash\ntrue\n"
    assert run_task(train(workdir, script)).result["state"] == "COMPLETED"
    assert said in task_log()


@both_ways
def test_mlflow_gets_each_value_once(
    connected, workdir, run_task, kept, store, tmp_path, monkeypatch, deferrable
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/store")
    job_id = run_task(train(workdir, deferrable=deferrable)).result["job_id"]
    client = MlflowClient(f"file://{tmp_path}/store")
    [run] = client.search_runs([client.get_experiment_by_name("dag").experiment_id])
    assert (run.info.status, run.data.tags["airflow.task_id"]) == ("FINISHED", "task")
    assert run.data.tags["firecrest.job"].endswith(f"/{job_id}")
    assert [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss")] == [
        (1, 0.5),
        (2, 0.25),
    ]


@pytest.mark.parametrize(
    ("fields", "uri"),
    [
        ({"host": "mlflow.example.org"}, "http://mlflow.example.org"),
        ({"host": "mlflow.example.org", "schema": "https", "port": 8443}, "https://mlflow.example.org:8443"),
        ({"host": "https://example.org:5000/mlflow/"}, "https://example.org:5000/mlflow"),
        ({"host": "https://example.org", "login": "me", "password": "a/b@c"}, "https://me:a%2Fb%40c@example.org"),
    ],
)
def test_where_mlflow_is(fields: dict[str, Any], uri: str) -> None:
    assert tracking_uri(AirflowConnection(conn_id="mlflow", conn_type="http", **fields)) == uri


@both_ways
def test_a_connection_of_mlflow_that_is_missing_does_not_concern_the_job(
    connected, workdir, run_task, ti, kept, deferrable, caplog
) -> None:
    run_task(train(workdir, deferrable=deferrable, mlflow_conn_id="no_such_mlflow"))
    assert kept[-1] == [(1, 0.5), (2, 0.25)]
    assert "its connection 'no_such_mlflow' cannot be used" in caplog.text
