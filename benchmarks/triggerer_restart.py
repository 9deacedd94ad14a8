"""How soon does the waiting go on after a triggerer was killed and started again?

A real Airflow, its own intervals as they are by default, and jobs on the embedded FirecREST whose tasks are deferred.
Two jobs run when the triggerer and its children are killed; one of them ends meanwhile; the triggerer is started again
at once.

    python -m benchmarks.triggerer_restart [--poll-interval S] [--rounds N] [--check]

The last line is a JSON object with median and worst of the seconds since the new triggerer was started:

- ``handed_over``: until Airflow has given it both triggers
- ``looked``: until the state of the job that goes on was seen for the first time
- ``resumed``: until the event of the job that ended meanwhile, which resumes its task

``--check`` fails where one of them is longer than the poll interval. Of that time, the program's start takes two to
three seconds on two cores, and another three pass while Airflow builds the API that tells a trigger its connection.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.deployment import log_entries
from demo.services import Service, wait_until
from demo.stack import Stack, stack_of

DAG_ID = "waiting"
DAG = """
import os

from airflow.sdk import DAG

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator

with DAG("waiting", schedule=None, max_active_runs=100):
    FirecRESTSubmitOperator(
        task_id="job",
        job={"command": "until [ -e {{ run_id }} ]; do sleep 0.1; done; touch {{ run_id }}.ended"},
        working_dir=os.environ["FIRECREST_WORKDIR"],
        poll_interval=float(os.environ["POLL_INTERVAL"]),
    )
"""


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poll-interval", type=float, default=10.0, help="of the tasks (default: %(default)s s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often it is killed (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="fail where it took longer than the poll interval")
    given = parser.parse_args()
    os.environ["POLL_INTERVAL"] = str(given.poll_interval)
    with tempfile.TemporaryDirectory() as directory, stack_of(Path(directory), DAG, DAG_ID) as stack:
        rounds = [one_round(stack, number) for number in range(given.rounds)]
    report = {name: spread([times[name] for times in rounds]) for name in rounds[0]}
    print(json.dumps({"poll_interval": given.poll_interval, "rounds": given.rounds} | report))
    if given.check and any(times["worst"] > given.poll_interval for times in report.values()):
        sys.exit("The waiting went on too late.")


@dataclass(frozen=True)
class Wait:
    """One deferred task, and what its trigger's logs tell."""

    logs: Path
    folder: Path
    run_id: str

    def end_job(self) -> None:
        """Let the job end."""
        (self.folder / self.run_id).touch()

    def job_has_ended(self) -> bool:
        return (self.folder / f"{self.run_id}.ended").exists()

    def told(self, what: str, since: float = 0.0) -> float:
        """When the trigger's log told something, in seconds since the epoch; 0 if it has not."""
        files = sorted(self.logs.glob(f"*{DAG_ID}/*{self.run_id}/*/*.trigger.*.log"))
        entries = (entry for file in files for entry in log_entries(file))
        return next((at for at, text in entries if at > since and what in text), 0.0)


def one_round(stack: Stack, number: int) -> dict[str, float]:
    """Kill the triggerer once."""
    triggerer = stack.airflow.service("triggerer")
    logs, folder = stack.airflow.home / "logs", Path(stack.cluster.variables["FIRECREST_WORKDIR"])
    ended, going_on = (Wait(logs, folder, f"round{number}{name}") for name in ("ended", "going_on"))
    both = (ended, going_on)
    for wait in both:
        stack.api.trigger(DAG_ID, wait.run_id)
    until(lambda: all(wait.told("RUNNING") for wait in both), "both jobs run and are watched", triggerer)

    triggerer.crash()
    ended.end_job()
    until(ended.job_has_ended, "one job has ended")
    started = time.time()
    triggerer.start()
    until(lambda: bool(ended.told("fired event", started)), "the end of one job is known", triggerer)
    until(lambda: bool(going_on.told("RUNNING", started)), "the state of the other is known", triggerer)
    going_on.end_job()
    until(lambda: all(stack.api.run_state(DAG_ID, wait.run_id) == "success" for wait in both), "both runs end well")
    return {
        "handed_over": max(wait.told("starting", started) for wait in both) - started,
        "looked": going_on.told("RUNNING", started) - started,
        "resumed": ended.told("fired event", started) - started,
    }


def until(condition: Callable[[], bool], what: str, *services: Service) -> None:
    """Wait for a condition."""
    wait_until(condition, what, services=services)


def spread(seconds: list[float]) -> dict[str, Any]:
    """Median and worst."""
    return {"median": round(statistics.median(seconds), 1), "worst": round(max(seconds), 1)}


if __name__ == "__main__":
    main()
