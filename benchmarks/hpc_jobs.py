"""Measure what the page of HPC jobs costs Airflow's API server and its database.

The database has 10,000 jobs in 200 runs, of which 20 are active, beside 10,000 runs of other DAGs and 200,000 other
XComs. A fresh process of the API server reads them.

    python -m benchmarks.hpc_jobs [--check]

SQLite is measured, and PostgreSQL if it is installed. The last line is a JSON object with, for each database:

- ``first``: seconds until the first answer that has jobs, and how many it has
- ``complete``: seconds of views until all jobs are known, how many views that takes, and after how many seconds a
  lone viewer has them, whose page asks again and again
- ``refresh``: seconds in which a view brings the memory up to date, when nothing and when 20 jobs have changed
- ``page``: seconds of a page with a filter, a search and a sort that nobody has asked for yet
- ``job``: seconds of the page of one job
- ``viewers``: statements and seconds of 50 views at once, each as a multiple of those of one view
- ``wide``: seconds of reading one run of 10,000 mapped tasks that each have a job: the longest view while it is read
  and how many views that takes, and of a refresh when one of the jobs has changed
- ``megabytes``: memory of the process that the jobs take
- ``scanned``: queries that use no index of Airflow's; PostgreSQL is kept from scanning where there is an index

``--check`` fails if the first answer takes more than a second, a refresh more than 0.5 s, a page more than 0.1 s, 50
viewers take more statements than one does, or a query uses no index.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.reconciler_scan import bare, connection, databases

RUNS, JOBS_OF_A_RUN, ACTIVE = 200, 50, 20
OTHER_RUNS, OTHER_XCOMS = 10_000, 10
VIEWERS, ROUNDS = 50, 5
WIDE = 10_000
READABLE = frozenset({f"sweep-{number}" for number in range(10)})
PAUSE = 0.5  # seconds between two questions of a page that is not complete yet, as in firecrest.js
LONGEST_FIRST, LONGEST_REFRESH, LONGEST_PAGE = 1.0, 0.5, 0.1


def main() -> int:
    """Measure each database in a process of its own, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if a view costs too much")
    parser.add_argument("--inside", choices=["fill", "measure"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside == "fill":
        fill()
        return 0
    if given.inside == "measure":
        print(json.dumps(measure()))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        costs = {name: run(url, directory) for name, url in databases(Path(directory))}
    passed = all(
        cost["first"]["seconds"] <= LONGEST_FIRST
        and cost["refresh"]["changed"] <= LONGEST_REFRESH
        and cost["page"] <= LONGEST_PAGE
        and cost["viewers"]["statements"] <= 1.0
        and not cost["scanned"]
        for cost in costs.values()
    )
    print(json.dumps({"jobs": RUNS * JOBS_OF_A_RUN, "databases": costs, "passed": passed}))
    return 1 if given.check and not passed else 0


def run(url: str, home: str) -> Any:
    """Fill one database, and measure it in a fresh process whose Airflow uses it."""
    environment = os.environ | {"AIRFLOW_HOME": home, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
    command = [sys.executable, "-m", "benchmarks.hpc_jobs", "--inside"]
    subprocess.run([*command, "fill"], env=environment, check=True)
    answer = subprocess.run([*command, "measure"], env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


# --- in the process of the API server -----------------------------------------------------------------


def measure() -> dict[str, Any]:
    """Measure a board that has read nothing yet."""
    from airflow import models
    from sqlalchemy.orm import configure_mappers

    from airflow_provider_firecrest.monitoring.board import JobBoard
    from airflow_provider_firecrest.monitoring.query import JobQuery, SortKey
    from firecrest_core.states import Phase

    models.import_all_models()  # as the API server does when it starts
    configure_mappers()
    board, before = JobBoard(), resident()
    with statements() as first_statements:
        first, page = timed(lambda: board.find(JobQuery(), READABLE))
        page_is_complete = page.complete
        views, complete = 1, first
        while not page_is_complete:
            board._due = 0.0
            took, further = timed(lambda: board.find(JobQuery(), READABLE))
            views, complete, page_is_complete = views + 1, complete + took, further.complete
    used = resident() - before
    assert board.find(JobQuery(), READABLE).total == RUNS * JOBS_OF_A_RUN

    def refresh() -> float:
        board._due = 0.0
        return timed(lambda: board.find(JobQuery(), READABLE))[0]

    with statements() as refresh_statements:
        idle = min(refresh() for _ in range(ROUNDS))
    changed = []
    for _ in range(ROUNDS):
        change_jobs()
        changed.append(refresh())
    board._due = float("inf")
    query = JobQuery(phases=frozenset({Phase.ENDED}), account="s12", sort=SortKey.WAITED)
    pages = [timed(lambda text=text: board.find(replaced(query, text), READABLE))[0] for text in "12345"]
    with statements() as job_statements:
        seconds, row = timed(lambda: board.get("sweep-1", "run-1", "relax", 7, "57"))
        assert row is not None
    return {
        "first": {"seconds": round(first, 3), "jobs": page.total},
        "complete": {"seconds": round(complete, 3), "views": views, "alone": round(complete + (views - 1) * PAUSE, 1)},
        "refresh": {"idle": round(idle, 4), "changed": round(min(changed), 4)},
        "page": round(min(pages), 4),
        "job": round(seconds, 4),
        "viewers": viewers(board),
        "wide": wide(board),
        "megabytes": round(used, 1),
        "scanned": scanned([*first_statements, *refresh_statements, *job_statements]),
    }


def replaced(query: Any, text: str) -> Any:
    """Return a query with a search that nobody has made yet."""
    from dataclasses import replace

    return replace(query, text=text)


def viewers(board: Any) -> dict[str, float]:
    """Return what many views at once cost, as a multiple of what one costs."""
    one, many = [views_at_once(board, 1) for _ in range(ROUNDS)], [views_at_once(board, VIEWERS) for _ in range(ROUNDS)]
    return {
        "statements": round(min(count for count, _ in many) / min(count for count, _ in one), 2),
        "seconds": round(min(took for _, took in many) / min(took for _, took in one), 2),
    }


def views_at_once(board: Any, count: int) -> tuple[int, float]:
    """Let threads view the same page at once, when a refresh is due; return the statements and the seconds."""
    from airflow_provider_firecrest.monitoring.query import JobQuery

    change_jobs()
    board._due = 0.0
    start = threading.Barrier(count + 1)

    def view() -> None:
        start.wait()
        board.find(JobQuery(), READABLE)

    threads = [threading.Thread(target=view) for _ in range(count)]
    for thread in threads:
        thread.start()
    with statements() as sent:
        start.wait()
        took, _ = timed(lambda: [thread.join() for thread in threads])
    return len(sent), took


def wide(board: Any) -> dict[str, float]:
    """Return what a run with very many jobs costs."""
    from airflow_provider_firecrest.monitoring.query import JobQuery

    add_wide_run()
    readable = READABLE | {"wide"}

    def view() -> tuple[float, Any]:
        board._due = 0.0
        return timed(lambda: board.find(JobQuery(dag_id="wide"), readable))

    took, page = view()
    views = [took]
    while not page.complete:
        took, page = view()
        views.append(took)
    assert page.total == WIDE
    changed = []
    for _ in range(ROUNDS):
        change_wide_job()
        changed.append(view()[0])
    return {"longest": round(max(views), 3), "views": len(views), "refresh": round(min(changed), 4)}


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call takes, and what it returns."""
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def resident() -> float:
    """Return the memory of this process, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that are sent to the database."""
    from airflow import settings
    from sqlalchemy import event

    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        sent.append((statement, parameters))

    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)


def scanned(sent: list[tuple[str, Any]]) -> list[str]:
    """Return those of some queries of which the database reads a whole table."""
    found = []
    with connection() as connected:
        sqlite = connected.dialect.name == "sqlite"
        explain, scan = ("EXPLAIN QUERY PLAN", "SCAN ") if sqlite else ("EXPLAIN", "Seq Scan")
        if not sqlite:
            connected.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for statement, parameters in dict(sent).items():
            plan = connected.exec_driver_sql(f"{explain} {statement}", parameters).fetchall()
            lines = [str(row[-1]) for row in plan]
            # SQLite also says so of a list of values, and of the index by which it finds the highest number.
            tables = [line for line in lines if scan in line and "USING" not in line and "CONSTANT" not in line]
            if tables:
                found.append(f"{tables[0]}: {statement}")
    return found


# --- what is in the database --------------------------------------------------------------------------


def fill() -> None:
    """Make the tables."""
    from airflow import models
    from airflow.models.dagrun import DagRun
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import insert

    models.import_all_models()
    rows = {DagRun: run_rows(), TaskInstance: task_rows(), XComModel: xcom_rows(), TaskStateStoreModel: ended_rows()}
    model: Any
    for model, values in rows.items():
        made = list(values)  # before a transaction begins: PostgreSQL ends one that is idle for 15 s
        for at in range(0, len(made), 5000):
            with connection() as connected:
                bare(model.__table__).create(connected, checkfirst=True)
                connected.execute(insert(model.__table__), made[at : at + 5000])
    with connection() as connected:
        if connected.dialect.name == "postgresql":
            connected.exec_driver_sql("ANALYZE")


def run_rows() -> Iterator[dict[str, Any]]:
    """Yield the DAG runs: those with jobs lie between the others, as far apart as a month allows."""
    from airflow.sdk import timezone

    now = timezone.utcnow()
    for number in range(1, RUNS + OTHER_RUNS + 1):
        has_jobs = number <= RUNS
        of_all = number / RUNS if has_jobs else (number - RUNS) / OTHER_RUNS
        date = now - timedelta(days=30 * (1 - of_all))
        yield {
            "id": number,
            "dag_id": f"sweep-{number % 10}" if has_jobs else f"other-{number % 100}",
            "run_id": f"run-{number}",
            "run_type": "scheduled",
            "state": "running" if has_jobs and number > RUNS - ACTIVE else "success",
            "run_after": date,
            "created_at": date,
            "updated_at": date,
            "log_template_id": 1,
            "span_status": "not_started",
            "clear_number": 0,
        }


def task_of(run: int, index: int) -> dict[str, Any]:
    """Return what names a task with a job."""
    return {"dag_id": f"sweep-{run % 10}", "run_id": f"run-{run}", "task_id": "relax", "map_index": index}


def task_rows() -> Iterator[dict[str, Any]]:
    """Yield the tasks with jobs."""
    for run in range(1, RUNS + 1):
        for index in range(JOBS_OF_A_RUN):
            state = "deferred" if run > RUNS - ACTIVE else "success"
            row = {"id": uuid.uuid4(), "state": state, "max_tries": 1, "try_number": 1}
            yield task_of(run, index) | row | {"pool": "default_pool", "pool_slots": 1}


def xcom_rows() -> Iterator[dict[str, Any]]:
    """Yield the jobs, and what other tasks and the same ones have stored beside them."""
    from airflow.sdk import timezone

    now = timezone.utcnow()
    for run in range(1, RUNS + 1):
        for index in range(JOBS_OF_A_RUN):
            task = task_of(run, index) | {"dag_run_id": run, "timestamp": now}
            yield task | {"key": "firecrest_job", "value": snapshot(run, index)}
            for number in range(OTHER_XCOMS):
                yield task | {"key": f"result-{number}", "value": {"text": "x" * 200}}
    for run in range(RUNS + 1, RUNS + OTHER_RUNS + 1):
        for number in range(OTHER_XCOMS):
            task = {"dag_id": f"other-{run % 100}", "run_id": f"run-{run}", "task_id": "extract", "map_index": number}
            yield task | {"dag_run_id": run, "timestamp": now, "key": "return_value", "value": {"text": "x" * 200}}


def ended_rows() -> Iterator[dict[str, Any]]:
    """Yield what earlier tries have left in the task state store, and what others keep there."""
    from airflow.sdk import timezone

    now = timezone.utcnow()
    for run in range(1, RUNS + 1):
        for index in range(JOBS_OF_A_RUN):
            task = task_of(run, index) | {"dag_run_id": run, "updated_at": now}
            yield task | {"key": "firecrest_ended", "value": json.dumps([snapshot(run, index)])}
            yield task | {"key": "firecrest", "value": json.dumps({"nonce": "n" * 22})}


def snapshot(run: int, index: int) -> dict[str, Any]:
    """Return a job as a task stores it, with its history."""
    from firecrest_core.jobs.snapshot import HistoryLine, JobSnapshot
    from firecrest_core.states import JobState

    active = run > RUNS - ACTIVE
    states = [JobState.PENDING, JobState.RUNNING] if active else [JobState.COMPLETED, JobState.FAILED]
    began = time.time() - 3600 * (RUNS - run)
    return JobSnapshot(
        job_id=str(run * JOBS_OF_A_RUN + index),
        system="daint" if run % 2 else "eiger",
        name=f"relax-{run}-{index}",
        state=states[index % 2],
        reason="Priority",
        account=f"s{index % 20}",
        partition="normal",
        nodes="nid[001000-001003]",
        node_count=4,
        submitted_at=began,
        started_at=int(began) + 600,
        ended_at=None if active else int(began) + 4200,
        elapsed=1800 if active else 3600,
        time_limit=7200,
        node_hours=None if active else 4.0,
        working_dir=f"/scratch/me/sweep/{run}/{index}",
        stdout=f"/scratch/me/sweep/{run}/{index}/slurm-{run * JOBS_OF_A_RUN + index}.out",
        seen_at=began + 4200,
        history=tuple(
            HistoryLine(began + minute * 60, "PENDING (Priority), expected start 14:20") for minute in range(9)
        ),
    ).to_dict()


def change_jobs() -> None:
    """Store a new snapshot of one job in each active run, as triggers do."""
    from airflow.models.xcom import XComModel
    from airflow.sdk import timezone
    from sqlalchemy import update

    with connection() as connected:
        for run in range(RUNS - ACTIVE + 1, RUNS + 1):
            value = snapshot(run, 7) | {"seen_at": time.time()}
            of_job = update(XComModel).where(
                XComModel.dag_run_id == run,
                XComModel.task_id == "relax",
                XComModel.map_index == 7,
                XComModel.key == "firecrest_job",
            )
            connected.execute(of_job.values(value=value, timestamp=timezone.utcnow()))


def add_wide_run() -> None:
    """Store one active run of a mapped task, with a job in each of its elements."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.sdk import timezone
    from sqlalchemy import insert

    number, now = RUNS + OTHER_RUNS + 1, timezone.utcnow()
    name = {"dag_id": "wide", "run_id": "wide"}
    run = next(run_rows()) | name | {"id": number, "state": "running"}
    run |= dict.fromkeys(("run_after", "created_at", "updated_at"), now)
    tasks = [name | {"task_id": "relax", "map_index": index} for index in range(WIDE)]
    state = {"state": "deferred", "max_tries": 1, "try_number": 1, "pool": "default_pool", "pool_slots": 1}
    xcom = {"key": "firecrest_job", "dag_run_id": number, "timestamp": now}
    with connection() as connected:
        connected.execute(insert(DagRun.__table__), [run])
        connected.execute(insert(TaskInstance.__table__), [task | state | {"id": uuid.uuid4()} for task in tasks])
        jobs = [task | xcom | {"value": snapshot(RUNS, index)} for index, task in enumerate(tasks)]
        connected.execute(insert(XComModel.__table__), jobs)


def change_wide_job() -> None:
    """Store a new snapshot of one job of that run."""
    from airflow.models.xcom import XComModel
    from airflow.sdk import timezone
    from sqlalchemy import update

    of_job = update(XComModel).where(XComModel.dag_run_id == RUNS + OTHER_RUNS + 1, XComModel.map_index == 7)
    with connection() as connected:
        connected.execute(
            of_job.values(value=snapshot(RUNS, 7) | {"seen_at": time.time()}, timestamp=timezone.utcnow())
        )


if __name__ == "__main__":
    sys.exit(main())
