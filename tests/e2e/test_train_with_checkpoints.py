"""The DAG `train_with_checkpoints`: a training that its time limit stops is one task, and repeats no epoch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from harness.airflow.runs import DAGRun
from harness.airflow.stack import AirflowStack


def test_a_training_that_its_time_limit_stops_is_one_task(
    stack: AirflowStack, start_run: Callable[..., DAGRun], wait_for_success: Callable[[DAGRun], None], tmp_path: Path
) -> None:
    run = start_run("train_with_checkpoints", folder=str(tmp_path))
    wait_for_success(run)
    metrics = json.loads((tmp_path / run.run_id / "metrics.json").read_text())
    began = metrics["jobs_began_at"]
    assert sorted(set(began)) == began
    assert [point["step"] for point in metrics["learning_curve"]] == list(range(1, 16))
    assert stack.api.xcom(run.dag_id, run.run_id, "report") == metrics["accuracy"]
    job = stack.api.xcom(run.dag_id, run.run_id, "train")
    causes = [earlier["cause"] for earlier in job["course"]["earlier_jobs"]]
    assert causes
    assert causes.count("chain") == len(began) - 1
    assert {*causes} <= {"chain", "time_limit"}  # on a busy machine, a job may have no time for an epoch
    stored = stack.api.xcom(run.dag_id, run.run_id, "train", f"firecrest_metrics.{job['job_id']}")
    curve = stored["series"]["loss"]["points"]
    assert [step for step, _ in curve] == list(range(1, 16))
