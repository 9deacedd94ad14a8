"""Jobs that end soon after their tasks were deferred, with Airflow's default heartbeat interval of workers."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.airflow.runs import DAGRun, wait_for_runs
from harness.airflow.stack import stack_with_dags

DAG = """
import os

from airflow.sdk import DAG

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator

with DAG("short", schedule=None):
    FirecRESTSubmitOperator.partial(
        task_id="job", working_dir=os.environ["FIRECREST_WORKDIR"], poll_interval=1
    ).expand(job=[{"command": "sleep 0.5"} for _ in range(20)])
"""


def test_a_task_whose_job_ends_soon_is_not_killed(tmp_path: Path) -> None:
    """Airflow kills tasks that resume before it has noticed that their first process ended (apache/airflow#72716)."""
    with stack_with_dags(tmp_path, DAG, "short", variables={"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5"}) as stack:
        run = DAGRun("short", "run")
        stack.api.trigger(run.dag_id, run.run_id)
        wait_for_runs(stack.api, [run], Console())
