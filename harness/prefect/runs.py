"""Waiting for flow runs, with their progress on the console."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from harness.errors import RunFailed
from harness.prefect.api import FINISHED, PrefectAPI

COLOURS = {"COMPLETED": "green", "RUNNING": "yellow", "FAILED": "bold red", "CRASHED": "bold red", "CANCELLED": "red"}
NOT_PRINTED = {"SCHEDULED", "PENDING"}


def wait_for_flow_runs(api: PrefectAPI, runs: Mapping[str, str], console: Console, *, timeout: float = 600) -> None:
    """Wait until the flow runs have finished, and print each change of a task's state.

    :param runs: the ids of the flow runs with their names on the console
    :param timeout: seconds until all runs have to be finished
    :raises RunFailed: a run did not complete (the message holds its log), or is still running after the timeout
    """
    started = time.monotonic()
    printed: dict[str, str] = {}
    unfinished = dict(runs)
    states: dict[str, dict[str, str]] = {}
    while unfinished:
        for run_id, name in list(unfinished.items()):
            # The run is read before its tasks, so that the last states of its tasks are printed too.
            states[run_id] = api.flow_run(run_id)["state"]
            for task in api.task_runs(run_id):
                state = (task["state"] or {"type": "PENDING"})["type"]
                if printed.get(task["id"]) != state and state not in NOT_PRINTED:
                    printed[task["id"]] = state
                    colour = COLOURS.get(state, "default")
                    console.print(
                        f"{time.monotonic() - started:5.1f} s  {name:18} {escape(_shorten(task['name'])):32} "
                        f"[{colour}]{task['state']['name']}[/{colour}]",
                        highlight=False,
                    )
            if states[run_id]["type"] in FINISHED:
                del unfinished[run_id]
        if unfinished and time.monotonic() - started > timeout:
            raise RunFailed(f"still running after {timeout:g} s: {', '.join(unfinished.values())}")
        if unfinished:
            time.sleep(0.5)
    failed = [run_id for run_id, state in states.items() if state["type"] != "COMPLETED"]
    if failed:
        raise RunFailed("\n\n".join(_failure(api, run_id, runs[run_id], states[run_id]) for run_id in failed))


def _shorten(text: str, limit: int = 32) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _failure(api: PrefectAPI, run_id: str, name: str, state: Mapping[str, str]) -> str:
    return f"{name} ended {state['name']}: {state.get('message')}\n\nIts log:\n{api.log(run_id)}"
