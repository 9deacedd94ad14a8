"""Measure what it costs the triggerer to end many deferred tasks at once.

The triggers of all tasks are killed in one event loop, as in the triggerer's child, and a reconciler finds the records
of all tasks, as in the triggerer's main process. FirecREST is the embedded one, in a process of its own. Its jobs are
over, but all claims are taken as for jobs that may still begin.

    python -m benchmarks.cancel_many [--tasks N] [--check]

The last line is a JSON object with, for ``triggers`` and ``reconciler``:

- ``connections``: of the process at the same time, at most
- ``mb``: memory above that of the idle process, at most
- ``tokens``, ``lists``: requests for a token, and for the list of jobs
- ``seconds``: until all is done

``--check`` fails if both together take more than 8 connections or 64 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from harness.firecrest import FirecRESTServer

MOST_CONNECTIONS, MOST_MB = 8, 64.0
CONN_ID = "firecrest_default"


def main() -> int:
    """Measure each part in a process of its own, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2000, help="tasks that end at once (default: 2000)")
    parser.add_argument("--check", action="store_true", help="fail if it takes too many connections or too much memory")
    parser.add_argument("--inside", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(measure(given.inside, given.tasks)))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        costs = {part: run(part, given.tasks, Path(directory, part)) for part in PARTS}
    in_all = {name: round(sum(cost[name] for cost in costs.values()), 1) for name in ("connections", "mb")}
    passed = in_all["connections"] <= MOST_CONNECTIONS and in_all["mb"] <= MOST_MB
    print(json.dumps({"tasks": given.tasks, **costs, "in_all": in_all, "passed": passed}))
    return 1 if given.check and not passed else 0


def run(part: str, tasks: int, home: Path) -> dict[str, Any]:
    """Run one part against a new FirecREST, and check that it has taken each task's claim."""
    with FirecRESTServer(home / "firecrest") as server:
        server.wait()
        workdir = Path(server.variables["FIRECREST_WORKDIR"], "sweep")
        workdir.mkdir()
        environment = os.environ | server.variables
        environment |= {
            "AIRFLOW_HOME": str(home / "airflow"),
            f"AIRFLOW_CONN_{CONN_ID.upper()}": json.dumps(server.connection()),
            "WORKDIR": str(workdir),
        }
        command = [sys.executable, "-m", "benchmarks.cancel_many", "--inside", part, "--tasks", str(tasks)]
        answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        claims = sum(path.name == "claim" for path in workdir.rglob("*"))
    assert claims == tasks, f"{claims} claims were taken, not {tasks}"
    return dict(json.loads(answer.stdout.splitlines()[-1]))


# --- in the process of one part ----------------------------------------------------------------------


class Meter(threading.Thread):
    """Watches the connections and the memory of this process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process()
        self.idle = self.most = self.process.memory_info().rss
        self.connections = 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Look again and again."""
        while not self.ended.wait(0.05):
            self.most = max(self.most, self.process.memory_info().rss)
            self.connections = max(self.connections, len(self.process.net_connections("tcp")))


def measure(name: str, tasks: int) -> dict[str, Any]:
    """Run one part and return its costs."""
    from firecrest_core.api.http import HTTPSession

    # What many systems allow a process; a connection for each task needs more.
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    requests: Counter[str] = Counter()
    send = HTTPSession.send

    async def count(session: HTTPSession, request: Any, **options: Any) -> Any:
        requests[request.url.path.rpartition("/")[2]] += 1
        return await send(session, request, **options)

    async def timed() -> tuple[Meter, float]:
        part = PARTS[name](tasks)
        await part.end(0, 1)  # what is imported and read once is in the triggerer already
        requests.clear()
        meter = Meter()
        meter.start()
        began = time.monotonic()
        await part.end(1, tasks)
        seconds = time.monotonic() - began
        meter.ended.set()
        meter.join()
        return meter, seconds

    with patch.object(HTTPSession, "send", count):
        meter, seconds = asyncio.run(timed())
    return {
        "connections": meter.connections,
        "mb": round((meter.most - meter.idle) / 2**20, 1),
        "tokens": requests["token"],
        "lists": requests["jobs"],
        "seconds": round(seconds, 1),
    }


def job(number: int) -> dict[str, Any]:
    """Return the job of a task, as records and triggers have it."""
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.key import ClaimKey

    return Job(
        system=os.environ["FIRECREST_SYSTEM"],
        job_id=str(1_000_000 + number),
        name="relax",
        working_dir=os.environ["WORKDIR"],
        key=ClaimKey(f"sweep-run-relax-{number}"),
    ).to_dict()


class Triggers:
    """The triggers of all tasks, which wait for their jobs until they are killed."""

    def __init__(self, tasks: int) -> None:
        from airflow_provider_firecrest.triggers.job import FirecRESTJobTrigger

        self._triggers = [
            FirecRESTJobTrigger(job=job(number), firecrest_conn_id=CONN_ID, poll_interval=10.0)
            for number in range(tasks)
        ]

    async def end(self, first: int, last: int) -> None:
        """Kill triggers, as Airflow does when their tasks were marked."""
        from airflow_provider_firecrest.cancel_policy import EndReason
        from airflow_provider_firecrest.triggers import base

        for trigger in self._triggers[first:last]:
            trigger.task_instance = None  # type: ignore[assignment]  # of no use to the answer below
            await trigger.hook.aconnection()  # each of them waits with it
        with patch.object(base, "ask_cancel_reason", lambda _: EndReason.FINISHED):
            await asyncio.gather(*(trigger.on_kill() for trigger in self._triggers[first:last]))


class Records:
    """The records of all tasks, as a reconciler's source."""

    remaining = 0.0

    def __init__(self, tasks: int) -> None:
        from airflow_provider_firecrest.airflow_internals import StoredValue
        from airflow_provider_firecrest.cancel_policy import EndReason
        from airflow_provider_firecrest.cancellation.reconciler import Reconciler
        from airflow_provider_firecrest.cancellation.scan import ScannedRecord
        from airflow_provider_firecrest.hooks import connection as stored_connection
        from airflow_provider_firecrest.job_records import JobRecord

        connection = stored_connection.load(CONN_ID)
        self._all, self._ended = [], slice(0)
        for number in range(tasks):
            task = ("sweep", "run", "relax", number)
            record = JobRecord(CONN_ID, 1, [job(number)]).signed(connection, task)
            stored = StoredValue(
                number, "firecrest_jobs", f"record {number}", (1, "run"), "sweep", "relax", number, True, "failed", 1
            )
            self._all.append(ScannedRecord(stored, record, EndReason.FINISHED))
        self._reconciler = Reconciler(self)

    def read(self) -> list[Any]:
        """Return the records of the tasks that have ended."""
        return self._all[self._ended]

    async def end(self, first: int, last: int) -> None:
        """Reconcile when tasks have ended."""
        from airflow_provider_firecrest import airflow_internals

        self._ended = slice(first, last)
        with (
            patch.object(airflow_internals, "delete_stored_values", len),
            patch.object(airflow_internals, "existing_dag_runs", set),
        ):
            await self._reconciler.reconcile_once()
            await self._reconciler.drain()


PARTS: dict[str, Any] = {"triggers": Triggers, "reconciler": Records}


if __name__ == "__main__":
    sys.exit(main())
