"""Measure what waiting adds to the time that a job takes.

Jobs of a few seconds run on the embedded FirecREST. Each writes the time of its end. The benchmark compares it with
the time at which the operator (waiting in its worker) or the trigger (waiting in the triggerer) has the result. Up to
one poll interval of the difference is unavoidable; the rest is overhead.

    python benchmarks/wait_overhead.py [--jobs N] [--seconds S]

The last line is a JSON object. For each way of waiting it holds the median and the worst delay in seconds, and the
worst one without the poll interval.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from firecrest_local import LocalFirecREST, Settings

POLL_INTERVAL = 1.0
BUDGET = 1.0


def main() -> None:
    """Measure both ways of waiting and print the report."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--jobs", type=int, default=5, help="jobs for each way of waiting")
    arguments.add_argument("--seconds", type=float, default=3.0, help="how long each job takes")
    given = arguments.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as root, LocalFirecREST(Settings(root=Path(root))) as server:
        os.environ["AIRFLOW_CONN_FIRECREST_DEFAULT"] = json.dumps(
            {
                "conn_type": "firecrest",
                "host": server.url,
                "login": server.client_id,
                "password": server.client_secret,
                "extra": {"auth_url": server.token_url, "system": server.system},
            }
        )
        delays = {
            "worker": [in_worker(server.home, given.seconds, number) for number in range(given.jobs)],
            "trigger": [in_trigger(server.home, given.seconds, number) for number in range(given.jobs)],
        }
    print(
        json.dumps({"job_seconds": given.seconds, "poll_interval": POLL_INTERVAL, "budget": BUDGET} | summarize(delays))
    )


def summarize(delays: dict[str, list[float]]) -> dict[str, Any]:
    """Compute the median and worst delay of each way of waiting, and whether they are within the budget."""
    ways: dict[str, Any] = {
        way: {
            "median": round(statistics.median(seconds), 3),
            "worst": round(max(seconds), 3),
            "worst_less_poll_interval": round(max(0.0, max(seconds) - POLL_INTERVAL), 3),
        }
        for way, seconds in delays.items()
    }
    return ways | {"within_budget": all(way["worst_less_poll_interval"] <= BUDGET for way in ways.values())}


def submit_operator(home: Path, seconds: float, end: Path) -> Any:
    """Make an operator whose job writes the time of its end into a file."""
    from airflow_provider_firecrest.operators import FirecRESTSubmitOperator

    return FirecRESTSubmitOperator(
        task_id=end.stem,
        job={"command": f"sleep {seconds}; date +%s.%N > {end}", "working_dir": str(home), "name": end.stem},
        deferrable=False,
        poll_interval=POLL_INTERVAL,
    )


def in_worker(home: Path, seconds: float, number: int) -> float:
    """Return the seconds from the job's end to the operator's result, waiting in the worker."""
    end = home / f"worker-{number}.end"
    ti = MagicMock(dag_id="benchmark", run_id="run", task_id=end.stem, map_index=-1, max_tries=0)
    store = MagicMock(**{"get.return_value": None})
    submit_operator(home, seconds, end).execute({"ti": ti, "task_state_store": store})
    return time.time() - float(end.read_text())


def in_trigger(home: Path, seconds: float, number: int) -> float:
    """Return the seconds from the job's end to the trigger's event."""
    from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
    from airflow_provider_firecrest.triggers.job import FirecRESTJobTrigger

    end = home / f"trigger-{number}.end"
    job = FirecRESTHook().submit_job({"command": f"sleep {seconds}; date +%s.%N > {end}", "working_dir": str(home)})

    async def first_event() -> float:
        trigger = FirecRESTJobTrigger(
            job=job.to_dict(), firecrest_conn_id="firecrest_default", poll_interval=POLL_INTERVAL
        )
        async for _ in trigger.run():
            return time.time()
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(first_event()) - float(end.read_text())


if __name__ == "__main__":
    main()
