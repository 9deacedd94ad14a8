"""Flow runs from their start to their end, with their progress on the screen."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from demo.prefect.api import ENDED, PrefectAPI
from demo.runs import RunFailed

COLOURS = {"COMPLETED": "green", "RUNNING": "yellow", "FAILED": "bold red", "CRASHED": "bold red", "CANCELLED": "red"}
QUIET = {"SCHEDULED", "PENDING"}


def follow(api: PrefectAPI, runs: Mapping[str, str], console: Console, *, timeout: float = 600) -> None:
    """Wait until the flow runs have ended; say each change of a task's state.

    :param runs: the ids of the flow runs, and what they are called on the screen
    :raises RunFailed: with its log, when one of them did not complete, or still goes on after `timeout` seconds
    """
    started = time.monotonic()
    seen: dict[str, str] = {}
    going_on = dict(runs)
    states: dict[str, dict[str, str]] = {}
    while going_on:
        for run_id, name in list(going_on.items()):
            # The run first: when it has ended, its tasks have nothing more to say.
            states[run_id] = api.flow_run(run_id)["state"]
            for task in api.task_runs(run_id):
                state = (task["state"] or {"type": "PENDING"})["type"]
                if seen.get(task["id"]) != state and state not in QUIET:
                    seen[task["id"]] = state
                    colour = COLOURS.get(state, "default")
                    console.print(
                        f"{time.monotonic() - started:5.1f} s  {name:18} {escape(_short(task['name'])):32} "
                        f"[{colour}]{task['state']['name']}[/{colour}]",
                        highlight=False,
                    )
            if states[run_id]["type"] in ENDED:
                del going_on[run_id]
        if going_on and time.monotonic() - started > timeout:
            raise RunFailed(f"still going on after {timeout:g} s: {', '.join(going_on.values())}")
        if going_on:
            time.sleep(0.5)
    failed = [run_id for run_id, state in states.items() if state["type"] != "COMPLETED"]
    if failed:
        raise RunFailed("\n\n".join(_failure(api, run_id, runs[run_id], states[run_id]) for run_id in failed))


def _short(text: str, most: int = 32) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _failure(api: PrefectAPI, run_id: str, name: str, state: Mapping[str, str]) -> str:
    return f"{name} ended {state['name']}: {state.get('message')}\n\nIts log:\n{api.log(run_id)}"
