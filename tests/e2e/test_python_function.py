"""The DAG `python_function`: a function runs as a job for each argument, and its values come back."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from harness.airflow.runs import DAGRun
from harness.airflow.stack import AirflowStack


def test_a_function_runs_as_mapped_jobs(
    stack: AirflowStack, start_run: Callable[..., DAGRun], wait_for_success: Callable[[DAGRun], None]
) -> None:
    run = start_run("python_function", jobs=2)
    wait_for_success(run)
    tasks = stack.api.task_instances(run.dag_id, run.run_id)
    assert sorted(task["map_index"] for task in tasks if task["task_id"] == "count_hits") == [0, 1]
    assert stack.api.xcom(run.dag_id, run.run_id, "estimate") == pytest.approx(math.pi, abs=0.05)
