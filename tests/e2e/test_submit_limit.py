"""A mapped sweep that is larger than the site's limit on submitted jobs, in a real Airflow with a real Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from harness.airflow.runs import DAGRun, wait_for_runs
from harness.airflow.stack import stack_with_dags
from harness.service import wait_until
from harness.slurm import Slurm

pytestmark = pytest.mark.slurm

SIZE, LIMIT = 20, 3
WAITS = "waits for room on local: AssocMaxSubmitJobLimit is reached"
DAGS = f"""
import os

from airflow.sdk import DAG

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator

with DAG("sweep", schedule=None, max_active_tasks={SIZE}):
    FirecRESTSubmitOperator.partial(
        task_id="point",
        script="#!/bin/bash\\necho $POINT >> points\\nuntil [ -e go ]; do sleep 0.2; done\\n",
        working_dir=os.environ["FIRECREST_WORKDIR"],
        poll_interval=1,
    ).expand(job=[{{"environment": {{"POINT": str(number)}}}} for number in range({SIZE})])
"""


def test_a_mapped_sweep_waits_for_room_without_a_worker(slurm: Slurm, tmp_path: Path) -> None:
    with slurm.max_submit_jobs(LIMIT), stack_with_dags(tmp_path, DAGS, "sweep", slurm=slurm) as stack:
        run = DAGRun("sweep", "manual__2026-08-01T12:00:00.000001+00:00")
        stack.api.trigger(run.dag_id, run.run_id)
        workdir = Path(stack.firecrest.variables["FIRECREST_WORKDIR"])

        def all_deferred() -> bool:
            return [task["state"] for task in stack.api.task_instances(run.dag_id, run.run_id)] == ["deferred"] * SIZE

        wait_until(all_deferred, "no task holds a worker", services=stack.airflow.services)
        assert len((workdir / "points").read_text().split()) == LIMIT

        def logs() -> list[str]:
            tasks = stack.api.task_instances(run.dag_id, run.run_id)
            return [stack.api.log(run.dag_id, run.run_id, task) for task in tasks]

        def all_in_line() -> bool:
            return sum(WAITS in log for log in logs()) == SIZE - LIMIT

        # A trigger that begins after the first jobs have ended would find room at once, and not say that it waits.
        wait_until(all_in_line, "all others wait for room", services=stack.airflow.services)
        (workdir / "go").touch()
        wait_for_runs(stack.api, [run], Console())
        tasks = stack.api.task_instances(run.dag_id, run.run_id)
        waited = [log for log in logs() if "The triggerer waits for room and submits it." in log]
        assert sorted(map(int, (workdir / "points").read_text().split())) == list(range(SIZE))
    assert [task["try_number"] for task in tasks] == [1] * SIZE
    assert len(waited) == SIZE - LIMIT
    for log in waited:
        assert log.count(WAITS) == 1
        assert log.count("was submitted to local") == 2  # by the trigger, and in the history at the end
