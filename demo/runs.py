"""DAG runs from their start to their end, with their progress on the screen."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from demo.rest import ENDED, AirflowAPI

COLOURS = {
    "success": "green",
    "running": "yellow",
    "deferred": "magenta",
    "failed": "bold red",
    "upstream_failed": "red",
}


@dataclass(frozen=True)
class Run:
    """One run of a DAG."""

    dag_id: str
    run_id: str


class RunFailed(Exception):
    """A run failed; the message holds the log of each task that failed."""


def follow(api: AirflowAPI, runs: Iterable[Run], console: Console, *, timeout: float = 600) -> None:
    """Wait until the runs have ended; say each change of a task's state.

    :raises RunFailed: when one of them failed or is still going on after `timeout` seconds
    """
    started = time.monotonic()
    seen: dict[tuple[Run, str, int], str] = {}
    going_on = set(runs)
    states: dict[Run, str] = {}
    while going_on:
        for run in sorted(going_on, key=str):
            # The run first: when it has ended, its tasks have nothing more to say.
            states[run] = api.run_state(run.dag_id, run.run_id)
            for task in api.task_instances(run.dag_id, run.run_id):
                key = run, task["task_id"], task["map_index"]
                state = task["state"] or "none"
                if seen.get(key) != state and state not in {"none", "scheduled"}:
                    seen[key] = state
                    _say(console, time.monotonic() - started, run, task, state)
            if states[run] in ENDED:
                going_on.discard(run)
        if going_on and time.monotonic() - started > timeout:
            names = ", ".join(run.dag_id for run in going_on)
            raise RunFailed(f"still going on after {timeout:g} s: {names}")
        if going_on:
            time.sleep(0.5)
    failed = [run for run, state in states.items() if state == "failed"]
    if failed:
        raise RunFailed("\n\n".join(_failure(api, run) for run in failed))


def _say(console: Console, elapsed: float, run: Run, task: dict[str, object], state: str) -> None:
    name = f"{task['task_id']}[{task['map_index']}]" if task["map_index"] != -1 else str(task["task_id"])
    colour = COLOURS.get(state, "default")
    console.print(f"{elapsed:5.1f} s  {run.dag_id:18} {escape(name):20} [{colour}]{state}[/{colour}]", highlight=False)


def _failure(api: AirflowAPI, run: Run) -> str:
    failed = [task for task in api.task_instances(run.dag_id, run.run_id) if task["state"] == "failed"]
    logs = [
        f"Task {task['task_id']} of {run.dag_id} failed:\n{api.log(run.dag_id, run.run_id, task)}" for task in failed
    ]
    return "\n\n".join(logs) or f"{run.dag_id} failed, and none of its tasks"
