"""Measure what it costs Airflow's database and the triggerer to look for tasks whose jobs are to be cancelled.

The database has 50,000 task instances, 155,000 rows of the task state store, and some tasks that wait for a job. The
reconciler's source of records reads it as in a triggerer, and as in the API server after a run was marked.

    python -m benchmarks.reconciler_scan [--waiting N …] [--check]

SQLite is measured, and PostgreSQL if it is installed. The last line is a JSON object with, for each database and number
of waiting tasks:

- ``known``: seconds of a look at the known and the newest records, and the seconds until the next one
- ``whole_table``: the same for a look at the whole table
- ``share``: the part of the time that both kinds of looks take together
- ``mark``: seconds that the API server needs when a run is marked, and those of each look in the half minute after

``--check`` fails if the share is above one hundredth, or a mark takes more than 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import ServiceFailed
from harness.postgresql import PostgreSQL

TASKS, ROWS, TASKS_OF_A_RUN = 50_000, 155_000, 100
LARGEST_SHARE, LONGEST_MARK = 0.01, 0.05
LOOKS = 3


def main() -> int:
    """Measure each database in a process of its own, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, nargs="+", default=[300, 10_000], help="tasks that wait for a job")
    parser.add_argument("--check", action="store_true", help="fail if a look or a mark costs too much")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps({str(waiting): measure(waiting) for waiting in given.waiting}))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        costs = {name: run(url, directory, given.waiting) for name, url in databases(Path(directory))}
    passed = all(
        cost["share"] <= LARGEST_SHARE and cost["mark"]["seconds"] <= LONGEST_MARK
        for by_waiting in costs.values()
        for cost in by_waiting.values()
    )
    print(json.dumps({"tasks": TASKS, "rows": ROWS, "databases": costs, "passed": passed}))
    return 1 if given.check and not passed else 0


def databases(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the URL of each database, while it runs."""
    yield "sqlite", f"sqlite:///{directory}/airflow.db"
    try:
        with PostgreSQL(directory / "postgresql.log") as server:
            yield "postgresql", server.url
    except ServiceFailed as error:
        print(f"{error}; measuring SQLite alone", flush=True)


def run(url: str, home: str, waiting: list[int]) -> Any:
    """Measure one database in a process whose Airflow uses it."""
    environment = os.environ | {"AIRFLOW_HOME": home, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
    command = [sys.executable, "-m", "benchmarks.reconciler_scan", "--inside", "--waiting", *map(str, waiting)]
    answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


# --- in the process of one database ------------------------------------------------------------------


def measure(waiting: int) -> dict[str, Any]:
    """Fill the database anew, and measure it."""
    from airflow_provider_firecrest.cancellation.record_sources import MarkedRuns, WholeTable

    fill(waiting)
    source = WholeTable()
    full, known, pauses = [], [], (0.0, 0.0)
    for _ in range(LOOKS):
        source._full_pace._due = 0.0
        full.append(seconds(source.read, waiting))
        full_pause = source._full_pace.remaining
        known.append(seconds(source.read, waiting))
        pauses = source._pace.remaining, full_pause
    marked = MarkedRuns()
    mark = [seconds(lambda: marked.add(1, time.monotonic() + 60.0), min(waiting, TASKS_OF_A_RUN)) for _ in range(LOOKS)]
    after = [seconds(marked.read, min(waiting, TASKS_OF_A_RUN)) for _ in range(LOOKS)]
    return {
        "known": {"seconds": least(known), "next_after": round(pauses[0], 1)},
        "whole_table": {"seconds": least(full), "next_after": round(pauses[1], 1)},
        "share": round(least(known) / pauses[0] + least(full) / pauses[1], 4),
        "mark": {"seconds": least(mark), "each_look_after": least(after)},
    }


def seconds(look: Callable[[], list[Any]], expected: int) -> float:
    """Return how long a look takes, after checking that it sees all that it should."""
    began = time.perf_counter()
    found = look()
    took = time.perf_counter() - began
    assert len(found) == expected, f"{len(found)} records were found, not {expected}"
    return took


def least(values: list[float]) -> float:
    """Return the least value, in the report's precision: other processes of this machine only add to it."""
    return round(min(values), 5)


def fill(waiting: int) -> None:
    """Make the tables, with tasks whose jobs have ended and ``waiting`` ones whose jobs have not."""
    from airflow import models
    from airflow.models.dagrun import DagRun
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import Table, delete, insert

    models.import_all_models()
    runs: Any = DagRun.__table__
    tasks: Any = TaskInstance.__table__
    rows: Any = TaskStateStoreModel.__table__
    with connection() as connected:
        table: Table
        for table in (runs, tasks, rows):
            bare(table).create(connected, checkfirst=True)
            connected.execute(delete(table))
        connected.execute(insert(rows), list(state_rows(waiting)))
        connected.execute(insert(tasks), list(task_rows(waiting)))
        if connected.dialect.name == "postgresql":
            connected.exec_driver_sql("ANALYZE")


def bare(table: Any) -> Any:
    """Return a table without its references to others, which are not made here."""
    from sqlalchemy import MetaData

    copied = table.to_metadata(MetaData(), referred_schema_fn=None)
    for constraint in list(copied.foreign_key_constraints):
        copied.constraints.discard(constraint)
        for element in constraint.elements:
            element.parent.foreign_keys.discard(element)
    return copied


@contextmanager
def connection() -> Iterator[Any]:
    """Connect to Airflow's database."""
    from airflow.utils.session import create_session

    with create_session() as session:
        yield session.connection()


def task_of(number: int) -> dict[str, Any]:
    """Return what names a task."""
    return {
        "dag_id": "sweep",
        "run_id": f"run-{number // TASKS_OF_A_RUN}",
        "task_id": "relax",
        "map_index": number % TASKS_OF_A_RUN,
    }


def task_rows(waiting: int) -> Iterator[dict[str, Any]]:
    """Yield the task instances; the first ones wait."""
    for number in range(TASKS):
        state = "deferred" if number < waiting else "success"
        row = {"id": uuid.uuid4(), "state": state, "max_tries": 1, "pool": "default_pool", "pool_slots": 1}
        yield task_of(number) | row


def state_rows(waiting: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the task state store: records, and whatever tasks keep there."""
    from airflow.sdk import timezone

    now = timezone.utcnow()
    for number in range(ROWS):
        task = number % TASKS
        # A record is written when its task begins, and others write before and after it.
        is_record = number < TASKS and task < waiting
        value = record(task) if is_record else json.dumps({"checkpoint": "x" * 200})
        key = "firecrest_jobs" if is_record else f"checkpoint-{number // TASKS}"
        run = 1 + task // TASKS_OF_A_RUN
        yield task_of(task) | {"dag_run_id": run, "key": key, "value": value, "updated_at": now}


def record(number: int) -> str:
    """Return the record of a task that waits."""
    key = {"identity": f"sweep-run-relax-{number}-abcdefghijklmnop", "epoch": 0, "generation": 0}
    job = {
        "system": "daint",
        "job_id": str(number),
        "name": "relax",
        "working_dir": f"/scratch/me/{number}",
        "stdout": None,
        "stderr": None,
        "array_indices": None,
        "submitted_at": 1795186580.0,
        "key": key,
    }
    fields = {"firecrest_conn_id": "firecrest_default", "max_tries": 1, "jobs": [job], "signature": "0" * 64}
    return json.dumps(fields)


if __name__ == "__main__":
    sys.exit(main())
