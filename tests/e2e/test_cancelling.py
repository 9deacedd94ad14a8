"""Marking, clearing, deleting or a timeout of a task in a real Airflow cancels its job.

Some tests suspend one of Airflow's components meanwhile.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg2
import pytest

from harness import postgresql
from harness.airflow.stack import AirflowStack
from tests.e2e.waiting_run import WaitingRun, waiting_dags


@pytest.fixture(scope="module")
def database(
    require: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[postgresql.PostgreSQL]:
    """Airflow's database: with SQLite, a suspended component can lock out all others."""
    require(postgresql.is_installed(), postgresql.REQUIREMENT)
    with postgresql.PostgreSQL(tmp_path_factory.mktemp("database") / "postgresql.log") as database:
        yield database


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, database: postgresql.PostgreSQL) -> Iterator[AirflowStack]:
    with waiting_dags(tmp_path_factory.mktemp("cancelling"), database.url) as stack:
        yield stack


@pytest.fixture
def run(stack: AirflowStack, request: pytest.FixtureRequest) -> Iterator[Callable[[str], WaitingRun]]:
    """Start a run whose id holds the test's name. When the test ends, nothing of it holds one of Airflow's slots."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    runs: list[WaitingRun] = []

    def run(dag_id: str) -> WaitingRun:
        runs.append(WaitingRun(stack, dag_id, f"{dag_id}-{name}"))
        return runs[-1]

    yield run
    for started in runs:
        started.give_up()


@pytest.fixture
def frozen(stack: AirflowStack, database: postgresql.PostgreSQL) -> Callable[[str], Any]:
    """Suspend all processes of one of Airflow's components inside a context."""

    @contextmanager
    def frozen(name: str) -> Iterator[None]:
        parent = psutil.Process(stack.airflow.service(name).pid)
        processes = [parent, *parent.children(recursive=True)]
        # A process that is suspended inside a transaction keeps its locks, for which others wait.
        while not _suspend(processes, database.url):
            time.sleep(0.1)
        try:
            yield
        finally:
            for process in reversed(processes):
                process.resume()

    return frozen


def _suspend(processes: list[psutil.Process], url: str) -> bool:
    """Suspend processes; return False, with all of them resumed, if one of them is inside a transaction."""
    for process in processes:
        process.suspend()
    ports = [connection.laddr.port for process in processes for connection in process.net_connections("tcp")]
    inside = "SELECT count(*) FROM pg_stat_activity WHERE client_port = ANY(%s) AND xact_start IS NOT NULL"
    with psycopg2.connect(url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute(inside, [ports])
        if cursor.fetchone() == (0,):
            return True
    for process in reversed(processes):
        process.resume()
    return False


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marked_while_deferred(run, state) -> None:
    task = run("deferred")
    task.wait_until(task.is_running)
    task.mark(state)
    task.wait_until(lambda: task.ended_jobs() == task.started_jobs())
    assert task.state() == state


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marked_before_the_trigger_started(run, frozen, state) -> None:
    with frozen("triggerer"):
        task = run("deferred")
        task.wait_until(lambda: task.started_jobs() and task.state() == "deferred")
        task.mark(state)
    task.wait_until(lambda: task.ended_jobs() == task.started_jobs())
    assert task.state() == state


def test_deleted_with_its_run(run) -> None:
    task = run("deferred")
    task.wait_until(task.is_running)
    task.mark_run("failed")
    task.delete()
    task.wait_until(lambda: task.ended_jobs() == task.started_jobs())


def test_deleted_with_its_run_while_no_triggerer_runs(run, frozen) -> None:
    with frozen("triggerer"):
        task = run("deferred")
        task.wait_until(lambda: task.started_jobs() and task.state() == "deferred")
        task.mark_run("failed")
        task.delete()
        task.wait_until(lambda: task.ended_jobs() == task.started_jobs())


def test_cleared_while_its_new_try_cannot_start(run, frozen) -> None:
    task = run("deferred")
    task.wait_until(lambda: task.started_jobs() and task.state() == "deferred")
    with frozen("scheduler"):
        task.clear()
        task.wait_until(lambda: len(task.ended_jobs()) == 1)
        assert len(task.started_jobs()) == 1
    task.wait_until(lambda: len(task.started_jobs()) == 2)
    task.finish_job()
    task.wait_until(lambda: task.state() == "success")
    assert task.ended_jobs() == task.started_jobs()


def test_marked_while_waiting_for_a_retry(run) -> None:
    task = run("worker")
    task.wait_until(task.started_jobs)
    task.worker().kill()
    task.wait_until(lambda: task.state() == "up_for_retry")
    assert not task.ended_jobs()
    task.mark("failed")
    task.wait_until(lambda: task.ended_jobs() == task.started_jobs())


def test_the_retry_after_a_killed_worker_adopts_its_job(run) -> None:
    task = run("retried")
    task.wait_until(task.started_jobs)
    task.worker().kill()
    task.wait_until(lambda: task.task()["try_number"] == 2 and task.state() == "running" and "RUNNING" in task.log())
    task.finish_job()
    task.wait_until(lambda: task.state() == "success")
    assert len(task.started_jobs()) == 1


def test_marked_while_waiting_in_a_worker(run) -> None:
    task = run("worker")
    task.wait_until(task.started_jobs)
    task.mark("failed")
    task.wait_until(lambda: task.ended_jobs() == task.started_jobs())


# A worker that sees its job cancelled before Airflow stops it fails by itself, and then the new try waits for the
# retry delay.
@pytest.mark.parametrize("dag_id", ["deferred", "retried", "last_try"])
def test_cleared_while_waiting(run, dag_id) -> None:
    task = run(dag_id)
    task.wait_until(task.is_running)
    task.clear()
    task.wait_until(lambda: len(task.started_jobs()) == 2)
    assert task.ended_jobs() == task.started_jobs()[:1]  # the old job had ended before the new one started
    task.finish_job()
    task.wait_until(lambda: task.state() == "success")


def test_execution_timeout_cancels_the_job_of_a_deferred_task(run) -> None:
    task = run("limited")
    task.wait_until(lambda: task.state() == "failed")
    assert "execution_timeout (0:00:08) has passed; cancelled job" in task.log()
    task.wait_until(lambda: task.ended_jobs() == task.started_jobs())


def test_dagrun_timeout_cancels_the_job(run) -> None:
    task = run("limited_run")
    task.wait_until(task.started_jobs)
    task.wait_until(lambda: task.ended_jobs() == task.started_jobs())
    assert task.state() == "skipped"


def test_a_record_that_a_person_has_edited_reaches_no_other_task(stack, run) -> None:
    victim, edited = run("deferred"), run("worker")
    victim.wait_until(victim.is_running)
    edited.wait_until(edited.started_jobs)
    edited.worker().kill()  # only the reconciler looks at what the record says now
    edited.wait_until(lambda: edited.state() == "up_for_retry")
    edited.write_record(victim.read_record())
    edited.mark("failed")
    triggerer = stack.airflow.service("triggerer")
    edited.wait_until(lambda: re.search(rf"{edited.run_id}.* is not signed", triggerer.log.read_text()))
    edited.finish_job()
    assert not victim.ended_jobs()
    assert victim.state() == "deferred"
    victim.finish_job()
    victim.wait_until(lambda: victim.state() == "success")


def test_marked_while_a_function_waits(run) -> None:
    task = run("function")
    task.wait_until(task.is_running)
    task.mark("failed")
    task.wait_until(lambda: task.ended_jobs() == task.started_jobs())
    assert task.state() == "failed"


def test_cleared_while_a_function_waits(run) -> None:
    task = run("function")
    task.wait_until(task.is_running)
    task.clear()
    task.wait_until(lambda: len(task.started_jobs()) == 2)
    assert task.ended_jobs() == task.started_jobs()[:1]
    task.finish_job()
    task.wait_until(lambda: task.state() == "success")


def test_execution_timeout_cancels_the_job_of_a_function(run) -> None:
    task = run("limited_function")
    task.wait_until(lambda: task.state() == "failed")
    task.wait_until(lambda: task.ended_jobs() == task.started_jobs())
    assert "AirflowTaskTimeout" in task.log()


def test_the_retry_of_a_function_adopts_the_job_and_hands_its_result_on(run) -> None:
    task = run("retried_function")
    task.wait_until(task.started_jobs)
    task.worker().kill()
    task.wait_until(lambda: task.task()["try_number"] == 2 and task.state() == "running" and "RUNNING" in task.log())
    assert "is there already" in task.log()
    task.finish_job()
    task.wait_until(lambda: task.run_state() == "success")
    [job_id] = task.started_jobs()
    assert task.xcom("read") == f"{job_id} COMPLETED"
