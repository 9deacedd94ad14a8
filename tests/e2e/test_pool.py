"""At most N jobs at the same time, by a pool of a real Airflow that includes deferred tasks."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.airflow.runs import DAGRun, wait_for_runs
from harness.airflow.stack import AirflowStack

SIZE, LIMIT = 5, 2


def test_never_more_jobs_than_the_pool_has_slots(stack: AirflowStack) -> None:
    pool = {"name": "rig", "slots": LIMIT, "include_deferred": True}
    stack.api.request("POST", "/pools", json=pool)
    run = DAGRun("limited", "manual__2026-08-01T12:00:00.000001+00:00")
    stack.api.trigger(run.dag_id, run.run_id)
    wait_for_runs(stack.api, [run], Console())
    tasks = stack.api.task_instances(run.dag_id, run.run_id)
    lines = (Path(stack.firecrest.variables["FIRECREST_WORKDIR"]) / "moments").read_text().splitlines()
    assert [task["state"] for task in tasks] == ["success"] * SIZE
    moments = sorted((float(at), int(step)) for step, at in map(str.split, lines))
    at_once = [sum(step for _, step in moments[: number + 1]) for number in range(len(moments))]
    assert len(moments) == 2 * SIZE
    assert max(at_once) == LIMIT
