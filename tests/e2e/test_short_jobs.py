"""Jobs that end soon after their tasks are deferred, where workers beat as seldom as they do by default."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from demo.runs import Run, follow
from demo.stack import stack_of

DAG = """
import os

from airflow.sdk import DAG

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator

with DAG("short", schedule=None):
    FirecRESTSubmitOperator.partial(
        task_id="job", working_dir=os.environ["FIRECREST_WORKDIR"], poll_interval=1
    ).expand(job=[{"command": "sleep 0.5"} for _ in range(20)])
"""


def test_a_task_whose_job_ends_soon_is_not_taken_for_killed(tmp_path: Path) -> None:
    """Airflow kills tasks that go on before it has heard of their first half's end (apache/airflow#72716)."""
    with stack_of(tmp_path, DAG, "short", variables={"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5"}) as stack:
        run = Run("short", "run")
        stack.api.trigger(run.dag_id, run.run_id)
        follow(stack.api, [run], Console())
