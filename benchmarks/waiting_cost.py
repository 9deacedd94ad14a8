"""Measure what it costs to wait for many jobs at once.

A stub of a scheduler answers on a virtual clock that skips the waiting. The client, its requests and its parsing are
real; only the network is not. The jobs are in the queue for ten minutes. In an outage of three minutes, every request
fails at once. Then the jobs run for ten minutes and end within one minute.

    python benchmarks/waiting_cost.py [--jobs N …] [--check]

The last line is a JSON object with, for each number of jobs:

- ``requests_per_interval``: requests in each poll interval (10 s) while nothing changes
- ``outage``: requests a second in its three minutes, the maximum in one second, waits that failed
- ``latency``: seconds from a job's end to its result
- ``kb_per_job``: memory that one more wait takes (tracemalloc)
- ``blocked_ms``: the longest time for which the event loop was blocked, on the real clock
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import selectors
import statistics
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job
from firecrest_core.watch.watcher import JobWatcher

POLL_INTERVAL = 10.0
QUIET, OUTAGE, RUNS_FROM, ENDS_FROM, ENDS_WITHIN = (150.0, 290.0), (300.0, 480.0), 600.0, 1200.0, 60.0
MOST_REQUESTS_A_SECOND = 2.0
LATENCY = 0.08  # measured on a real server, for the list as for one job

CONNECTION = Connection(
    url="https://f7t.example.org", token_url="https://id.example.org/token", client_id="me", client_secret="secret"
)


class Clock(selectors.SelectSelector):
    """A selector that advances the clock instead of sleeping, and measures how long the event loop was blocked.

    While a thread works for the loop, the clock stands still.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.working_threads = 0
        self.excluded = 0.0
        self.blocked = 0.0
        self._last_select = time.perf_counter()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Advance the clock by the timeout and return the events that are ready."""
        now = time.perf_counter()
        self.blocked = max(self.blocked, now - self._last_select - self.excluded)
        self._last_select, self.excluded = now, 0.0
        if self.working_threads and timeout != 0:
            self.excluded = 0.001
            return super().select(0.001)
        self.now += timeout or 0.0
        return super().select(0)

    @contextmanager
    def excluding(self) -> Iterator[None]:
        """Do not count the time of the stub as blocking."""
        began = time.perf_counter()
        yield
        self.excluded += time.perf_counter() - began


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which an hour of waiting takes no time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        super().__init__(clock)

    def time(self) -> float:
        """Return the time of the clock."""
        return self._clock.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Run a function in a thread while the clock stands still."""

        def thread_ended(_: Any) -> None:
            self._clock.working_threads -= 1

        self._clock.working_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(thread_ended)
        return future


class StubScheduler:
    """A FirecREST with a scheduler, with the requests that waiting needs."""

    def __init__(self, clock: Clock, jobs: int) -> None:
        self.clock = clock
        self.jobs = jobs
        self.requests: list[float] = []

    def ends_at(self, number: int) -> float:
        """Return the time at which a job ends."""
        return ENDS_FROM + ENDS_WITHIN * number / self.jobs

    def client(self, connection: Connection, *, attempts: int) -> FirecRESTClient:
        """Make a client whose requests this object answers."""
        client = FirecRESTClient(connection, attempts=attempts)
        client.requests.session._transport = httpx.MockTransport(self.answer)
        return client

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a request for a token, for one job or for the list."""
        self.requests.append(self.clock.now)
        if OUTAGE[0] <= self.clock.now < OUTAGE[1]:
            raise httpx.ConnectError("refused")
        await asyncio.sleep(LATENCY)
        with self.clock.excluding():
            if request.url.path == "/token":
                return httpx.Response(200, json={"access_token": "token", "expires_in": 36000})
            last = request.url.path.rpartition("/")[2]
            numbers = range(self.jobs) if last == "jobs" else [int(last)]
            return httpx.Response(200, json={"jobs": [self.row(number) for number in numbers]})

    def row(self, number: int) -> dict[str, Any]:
        """Return a job as the API shows it now."""
        now = self.clock.now
        state = "PENDING" if now < RUNS_FROM else "RUNNING" if now < self.ends_at(number) else "COMPLETED"
        elapsed = int(max(0.0, min(now, self.ends_at(number)) - RUNS_FROM))
        status = {"state": state, "stateReason": "None", "exitCode": 0, "interruptSignal": 0}
        clock = {"elapsed": elapsed, "start": 1795186580, "end": None, "suspended": 0, "limit": 3600}
        steps = [{"id": f"{number}.{step}", "name": step, "status": status, "time": clock} for step in ("batch", "0")]
        return {
            "jobId": str(number),
            "name": f"job-{number}",
            "status": status,
            "tasks": steps if state != "PENDING" else [],
            "time": clock,
            "account": "project",
            "allocationNodes": 1,
            "cluster": "rig",
            "group": "users",
            "nodes": "nid001",
            "partition": "normal",
            "killRequestUser": None,
            "user": "me",
            "workingDirectory": "/scratch/me/run",
            "priority": 4294901746,
        }

    def waits(self, **options: Any) -> list[Any]:
        """Return a coroutine for each job that waits for its end."""
        watcher = JobWatcher(CONNECTION, "rig", self.client)  # type: ignore[arg-type]
        return [
            watcher.wait(Job(system="rig", job_id=str(number)), poll_interval=POLL_INTERVAL, on_message=len, **options)
            for number in range(self.jobs)
        ]


def run_jobs(jobs: int) -> dict[str, Any]:
    """Wait for all jobs, through the outage, until they end; return the costs."""
    clock = Clock()
    scheduler = StubScheduler(clock, jobs)
    latencies: list[float] = []

    async def timed(number: int, wait: Any) -> None:
        assert (await wait).succeeded
        latencies.append(clock.now - scheduler.ends_at(number))

    async def wait_for_all() -> int:
        waits = [timed(number, wait) for number, wait in enumerate(scheduler.waits())]
        return sum(isinstance(end, BaseException) for end in await asyncio.gather(*waits, return_exceptions=True))

    failed = run(clock, wait_for_all())
    quiet = [at for at in scheduler.requests if QUIET[0] <= at < QUIET[1]]
    outage = [at for at in scheduler.requests if OUTAGE[0] <= at < OUTAGE[1]]
    return {
        "requests_per_interval": round(len(quiet) / (QUIET[1] - QUIET[0]) * POLL_INTERVAL, 2),
        "requests_in_all": len(scheduler.requests),
        "outage": {
            "requests": len(outage),
            "a_second": round(len(outage) / (OUTAGE[1] - OUTAGE[0]), 3),
            "most_in_one_second": max(sum(since <= at < since + 1 for at in outage) for since in outage),
            "failed_waits": failed,
        },
        "latency": {"median": round(statistics.median(latencies), 2), "worst": round(max(latencies), 2)}
        if latencies
        else None,
        "blocked_ms": round(1000 * clock.blocked, 1),
    }


def memory(jobs: int) -> float:
    """Measure the memory of one wait in kB, between two requests."""
    clock = Clock()

    async def measure() -> int:
        scheduler = StubScheduler(clock, jobs)
        await asyncio.gather(*scheduler.waits(timeout=5), return_exceptions=True)  # imports and caches
        gc.collect()
        tracemalloc.start()
        waits = [asyncio.create_task(wait) for wait in scheduler.waits()]
        await asyncio.sleep(10.5)
        gc.collect()
        traced = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return traced

    return round(run(clock, measure()) / jobs / 1024, 2)


def run(clock: Clock, coroutine: Any) -> Any:
    """Run a coroutine on the clock."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(coroutine)


def main() -> int:
    """Print the costs; with ``--check`` return 1 if a wait fails in the outage or there are too many requests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[50, 1000], help="numbers of jobs (default: 50 1000)")
    parser.add_argument(
        "--check", action="store_true", help="fail if a wait fails in the outage or there are too many requests"
    )
    given = parser.parse_args()
    costs = {str(jobs): run_jobs(jobs) | {"kb_per_job": memory(jobs)} for jobs in given.jobs}
    passed = all(
        cost["outage"]["failed_waits"] == 0 and cost["outage"]["most_in_one_second"] <= MOST_REQUESTS_A_SECOND
        for cost in costs.values()
    )
    print(json.dumps({"poll_interval": POLL_INTERVAL, "jobs": costs, "passed": passed}))
    return 1 if given.check and not passed else 0


if __name__ == "__main__":
    sys.exit(main())
