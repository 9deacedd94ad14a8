"""The DAG `train_model`: what it downloads, and that a bad model fails the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from harness.airflow.runs import DAGRun
from harness.airflow.stack import AirflowStack

PNG = b"\x89PNG\r\n\x1a\n"


def test_model_metrics_and_plot_are_downloaded(
    stack: AirflowStack, start_run: Callable[..., DAGRun], wait_for_success: Callable[[DAGRun], None], tmp_path: Path
) -> None:
    run = start_run("train_model", folder=str(tmp_path), epochs=20)
    wait_for_success(run)
    results = tmp_path / run.run_id
    metrics = json.loads((results / "metrics.json").read_text())
    assert len(metrics["learning_curve"]) == 20
    assert metrics["accuracy"] > 0.95
    assert stack.api.xcom(run.dag_id, run.run_id, "check_accuracy") == metrics["accuracy"]
    job_id = stack.api.xcom(run.dag_id, run.run_id, "train", "job_id")
    curves = stack.api.xcom(run.dag_id, run.run_id, "train", f"firecrest_metrics.{job_id}")["series"]
    assert set(curves) == {"loss", "train_accuracy", "test_accuracy"}
    assert curves["test_accuracy"]["points"][-1] == [20, metrics["accuracy"]]
    assert (results / "learning_curve.png").read_bytes().startswith(PNG)

    import joblib
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    assert joblib.load(results / "model.joblib").score(images, digits) >= metrics["accuracy"]


def test_a_model_that_is_not_good_enough_fails_the_run(
    stack: AirflowStack, start_run: Callable[..., DAGRun], wait_for_failure: Callable[[DAGRun], str], tmp_path: Path
) -> None:
    run = start_run("train_model", folder=str(tmp_path), epochs=1, min_accuracy=0.99)
    message = wait_for_failure(run)
    assert "Task check_accuracy of train_model failed" in message
    assert "under the 99.0% that `min_accuracy` asks for" in message
    assert (tmp_path / run.run_id / "model.joblib").exists()
