"""Waiting for DAG runs, with their progress on the console."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from harness.airflow.api import FINISHED, AirflowAPI
from harness.errors import RunFailed

COLOURS = {
    "success": "green",
    "running": "yellow",
    "deferred": "magenta",
    "failed": "bold red",
    "upstream_failed": "red",
}


@dataclass(frozen=True)
class DAGRun:
    """One run of a DAG."""

    dag_id: str
    run_id: str


def wait_for_runs(api: AirflowAPI, runs: Iterable[DAGRun], console: Console, *, timeout: float = 600) -> None:
    """Wait until the runs have finished, and print each change of a task's state.

    :param timeout: seconds until all runs have to be finished
    :raises RunFailed: a run failed, or is still running after the timeout
    """
    started = time.monotonic()
    printed: dict[tuple[DAGRun, str, int], str] = {}
    unfinished = set(runs)
    states: dict[DAGRun, str] = {}
    while unfinished:
        for run in sorted(unfinished, key=str):
            # The run is read before its tasks, so that the last states of its tasks are printed too.
            states[run] = api.run_state(run.dag_id, run.run_id)
            for task in api.task_instances(run.dag_id, run.run_id):
                key = run, task["task_id"], task["map_index"]
                state = task["state"] or "none"
                if printed.get(key) != state and state not in {"none", "scheduled"}:
                    printed[key] = state
                    _print_state(console, time.monotonic() - started, run, task, state)
            if states[run] in FINISHED:
                unfinished.discard(run)
        if unfinished and time.monotonic() - started > timeout:
            names = ", ".join(run.dag_id for run in unfinished)
            raise RunFailed(f"still running after {timeout:g} s: {names}")
        if unfinished:
            time.sleep(0.5)
    failed = [run for run, state in states.items() if state == "failed"]
    if failed:
        raise RunFailed("\n\n".join(_failure(api, run) for run in failed))


def _print_state(console: Console, elapsed: float, run: DAGRun, task: dict[str, object], state: str) -> None:
    name = f"{task['task_id']}[{task['map_index']}]" if task["map_index"] != -1 else str(task["task_id"])
    colour = COLOURS.get(state, "default")
    console.print(f"{elapsed:5.1f} s  {run.dag_id:18} {escape(name):20} [{colour}]{state}[/{colour}]", highlight=False)


def _failure(api: AirflowAPI, run: DAGRun) -> str:
    failed = [task for task in api.task_instances(run.dag_id, run.run_id) if task["state"] == "failed"]
    logs = [
        f"Task {task['task_id']} of {run.dag_id} failed:\n{api.log(run.dag_id, run.run_id, task)}" for task in failed
    ]
    return "\n\n".join(logs) or f"{run.dag_id} failed without a failed task"
