"""The DAG `race_the_queues`: of two jobs in two queues, one runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.airflow.runs import DAGRun
from harness.airflow.stack import AirflowStack


def test_of_two_jobs_in_two_queues_one_runs(
    stack: AirflowStack, start_run: Callable[..., DAGRun], wait_for_success: Callable[[DAGRun], None]
) -> None:
    run = start_run("race_the_queues")
    wait_for_success(run)
    job = stack.api.xcom(run.dag_id, run.run_id, "race")
    partition = stack.api.xcom(run.dag_id, run.run_id, "report")
    assert partition in ("normal", "debug")
    began = Path(job["working_directory"], "began.txt").read_text()
    assert began == f"job {job['job_id']} runs in {partition}\n"
    assert str(stack.api.xcom(run.dag_id, run.run_id, "race", "job_id")) == job["job_id"]
