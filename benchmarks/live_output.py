"""Measure how late what running jobs print is in a log, and how many requests that takes.

The jobs run on the embedded FirecREST, and each is waited for as in Airflow's triggerer, with a poll interval of 10 s.
Each prints the time again and again. The benchmark compares that with the time at which a line is shown.

    python benchmarks/live_output.py [--jobs N] [--seconds S] [--case NAME …]

The last line is a JSON object. For each case it holds the lines that were shown, the median and the worst delay in poll
intervals, requests for files a second on average and the most in one second. The cases: ``apart``, every job in a
directory of its own, prints every 5 s; ``together``, all in one directory, every 5 s; ``quiet``, all in one directory,
each once in two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.api.http import HTTPSession
from firecrest_core.connection import Connection
from firecrest_core.follow.live_output import LiveOutput
from firecrest_core.spec.jobspec import JobSpec
from firecrest_local import LocalFirecREST, Settings

POLL_INTERVAL = 10.0
CASES = {"apart": (True, 5), "together": (False, 5), "quiet": (False, 120)}


def main() -> None:
    """Measure each case and print the report."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--jobs", type=int, default=100, help="jobs that run at once")
    arguments.add_argument("--seconds", type=float, default=180.0, help="how long each case is measured")
    arguments.add_argument("--case", nargs="*", choices=CASES, default=list(CASES))
    given = arguments.parse_args()
    logging.disable(logging.WARNING)
    report = {name: measure(given.jobs, given.seconds, *CASES[name]) for name in given.case}
    print(json.dumps({"jobs": given.jobs, "seconds": given.seconds, "poll_interval": POLL_INTERVAL} | report))


def measure(jobs: int, seconds: float, apart: bool, every: float) -> dict[str, Any]:
    """Run one case on a server of its own."""
    delays: list[float] = []
    with (
        tempfile.TemporaryDirectory() as root,
        LocalFirecREST(Settings(root=Path(root), cores=jobs)) as server,
        counting() as requests,
    ):
        connection = Connection(
            url=server.url,
            token_url=server.token_url,
            client_id=server.client_id,
            client_secret=server.client_secret,
            system=server.system,
        )
        asyncio.run(follow(connection, server.home, jobs, seconds, apart, every, delays, requests))
    intervals = [delay / POLL_INTERVAL for delay in delays]
    return {
        "lines": len(delays),
        "delay_median": round(statistics.median(intervals), 2),
        "delay_worst": round(max(intervals), 2),
        "requests_a_second": round(len(requests) / seconds, 2),
        "most_in_a_second": max(sum(at <= other < at + 1 for other in requests) for at in requests),
    }


async def follow(
    connection: Connection,
    home: Path,
    jobs: int,
    seconds: float,
    apart: bool,
    every: float,
    delays: list[float],
    requests: list[float],
) -> None:
    """Run the jobs, follow them for some seconds from when all of them run, and cancel them."""
    async with FirecRESTClient(connection) as client:
        system = client.system()
        submitted = [await submit(system, home, number, apart, every) for number in range(jobs)]
        running: set[str] = set()
        all_run, measuring = asyncio.Event(), asyncio.Event()

        def on_start(job_id: str) -> None:
            running.add(job_id)
            if len(running) == jobs:
                all_run.set()

        def on_lines(stream: str, lines: list[str]) -> None:
            if measuring.is_set():
                delays.extend(time.time() - float(line) for line in lines)

        waits = [asyncio.create_task(wait(system, job, on_lines, on_start)) for job in submitted]
        await all_run.wait()
        await asyncio.sleep(jobs)  # until all that was printed before is read
        requests.clear()
        measuring.set()
        await asyncio.sleep(seconds)
        measuring.clear()
        measured = list(requests)
        await lifecycle.cancel_all(system, submitted)
        for one in waits:
            one.cancel()
        await asyncio.wait(waits)
        requests[:] = measured


async def submit(system: System, home: Path, number: int, apart: bool, every: float) -> Any:
    """Submit a job that prints the time."""
    place = home / (f"job{number}" if apart else "jobs")
    place.mkdir(exist_ok=True)
    pause = number * every / 100  # so that they do not all print at once
    script = f"#!/bin/bash\nsleep {pause}\nwhile true; do echo $EPOCHREALTIME; sleep {every}; done\n"
    return await lifecycle.submit(system, JobSpec(script=script, working_dir=str(place)))


async def wait(system: System, job: Any, on_lines: Any, on_start: Any) -> None:
    """Wait for a job as a trigger does."""
    async with LiveOutput(system, job, on_lines, lambda remark: None, poll_interval=POLL_INTERVAL) as live:

        def on_status(status: Any) -> None:
            live.on_status(status)
            if status.started_at:
                on_start(job.job_id)

        await lifecycle.wait(
            system, job, poll_interval=POLL_INTERVAL, on_message=lambda line: None, on_status=on_status
        )


@contextmanager
def counting() -> Any:
    """Note when each request for files is sent."""
    times: list[float] = []
    send = HTTPSession._send_once

    async def counted(self: HTTPSession, method: str, url: str, options: dict[str, Any]) -> Any:
        if "/filesystem/" in url:
            times.append(time.monotonic())
        return await send(self, method, url, options)

    with patch.object(HTTPSession, "_send_once", counted):
        yield times


if __name__ == "__main__":
    main()
