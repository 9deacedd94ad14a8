"""The DAGs `parameter_sweep`, a job for each point of a grid, and `array_sweep`, one array for all of them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.airflow.runs import DAGRun
from harness.airflow.stack import AirflowStack


@pytest.mark.parametrize(("c", "gamma"), [([1, 10], [0.0003, 0.001]), ([10], [0.001])])
def test_each_point_becomes_a_job_and_a_row(
    stack: AirflowStack,
    start_run: Callable[..., DAGRun],
    wait_for_success: Callable[[DAGRun], None],
    tmp_path: Path,
    c: list[float],
    gamma: list[float],
) -> None:
    run = start_run("parameter_sweep", folder=str(tmp_path), c=c, gamma=gamma)
    wait_for_success(run)
    points = len(c) * len(gamma)
    tasks = stack.api.task_instances(run.dag_id, run.run_id)
    assert sorted(task["map_index"] for task in tasks if task["task_id"] == "score") == list(range(points))

    results = tmp_path / run.run_id
    with (results / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(float(row["c"]), float(row["gamma"])) for row in rows} == {(x, y) for x in c for y in gamma}
    assert all(0.9 < float(row["accuracy"]) < 1 for row in rows)
    assert (results / "sweep.png").stat().st_size > 0
    best = stack.api.xcom(run.dag_id, run.run_id, "reduce")
    assert best["accuracy"] == max(float(row["accuracy"]) for row in rows)


def test_all_points_are_elements_of_one_job(
    stack: AirflowStack,
    start_run: Callable[..., DAGRun],
    wait_for_success: Callable[[DAGRun], None],
    tmp_path: Path,
) -> None:
    run = start_run("array_sweep", folder=str(tmp_path), c=[1, 10], gamma=[0.0003, 0.001])
    wait_for_success(run)
    [score] = [task for task in stack.api.task_instances(run.dag_id, run.run_id) if task["task_id"] == "score"]
    assert "4 of 4 array elements COMPLETED" in stack.api.log(run.dag_id, run.run_id, score)
    assert len(list((tmp_path / run.run_id).iterdir())) == 4
    best = stack.api.xcom(run.dag_id, run.run_id, "best")
    assert 0.9 < best["accuracy"] < 1
