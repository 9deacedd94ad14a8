"""What ends a task in a real Airflow ends its job, also where nobody is there to hear of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from demo.stack import Stack
from tests.e2e import waits
from tests.e2e.waits import Run, until


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with waits.airflow(tmp_path_factory.mktemp("ending")) as stack:
        yield stack


@pytest.fixture
def run(stack: Stack, request: pytest.FixtureRequest) -> Callable[[str], Run]:
    """Start a run; its name is the test's."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return lambda dag_id: Run(stack, dag_id, f"{dag_id}-{name}")


@pytest.fixture
def frozen(stack: Stack) -> Callable[[str], Any]:
    """Hold one of Airflow's components, with all its processes, for a while."""

    @contextmanager
    def frozen(name: str) -> Iterator[None]:
        parent = psutil.Process(stack.airflow.service(name).pid)
        family = [parent, *parent.children(recursive=True)]
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in reversed(family):
                process.resume()

    return frozen


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marked_while_deferred(run, state) -> None:
    task = run("deferred")
    until(task.watched)
    task.mark(state)
    until(lambda: task.ended() == task.began())
    assert task.state() == state


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marked_before_the_trigger_started(run, frozen, state) -> None:
    with frozen("triggerer"):
        task = run("deferred")
        until(lambda: task.began() and task.state() == "deferred")
        task.mark(state)
    until(lambda: task.ended() == task.began())
    assert task.state() == state


def test_deleted_with_its_run(run) -> None:
    task = run("deferred")
    until(task.watched)
    task.mark_run("failed")
    task.delete()
    until(lambda: task.ended() == task.began())


def test_deleted_with_its_run_while_no_triggerer_runs(run, frozen) -> None:
    with frozen("triggerer"):
        task = run("deferred")
        until(lambda: task.began() and task.state() == "deferred")
        task.mark_run("failed")
        task.delete()
        until(lambda: task.ended() == task.began())


def test_cleared_while_its_new_try_cannot_start(run, frozen) -> None:
    task = run("deferred")
    until(lambda: task.began() and task.state() == "deferred")
    with frozen("scheduler"):
        task.clear()
        until(lambda: len(task.ended()) == 1)
        assert len(task.began()) == 1
    until(lambda: len(task.began()) == 2)
    task.let_go()
    until(lambda: task.state() == "success")
    assert task.ended() == task.began()


def test_marked_while_it_waits_for_a_retry(run) -> None:
    task = run("worker")
    until(task.began)
    task.worker().kill()
    until(lambda: task.state() == "up_for_retry")
    assert not task.ended()
    task.mark("failed")
    until(lambda: task.ended() == task.began())


def test_a_worker_that_was_killed_is_followed_by_one_that_goes_on_with_its_job(run) -> None:
    task = run("retried")
    until(task.began)
    task.worker().kill()
    until(lambda: task.task()["try_number"] == 2 and task.state() == "running" and "RUNNING" in task.log())
    task.let_go()
    until(lambda: task.state() == "success")
    assert len(task.began()) == 1


def test_marked_while_it_waits_in_a_worker(run) -> None:
    task = run("worker")
    until(task.began)
    task.mark("failed")
    until(lambda: task.ended() == task.began())


@pytest.mark.parametrize("dag_id", ["deferred", "worker", "last_try"])
def test_cleared_while_it_waits(run, dag_id) -> None:
    task = run(dag_id)
    until(task.watched)
    task.clear()
    until(lambda: len(task.began()) == 2)
    assert task.ended() == task.began()[:1]  # the old payload was gone before the new one began
    task.let_go()
    until(lambda: task.state() == "success")


def test_execution_timeout_holds_while_deferred(run) -> None:
    task = run("limited")
    until(lambda: task.state() == "failed")
    assert "execution_timeout (0:00:08) has passed; cancelled job" in task.log()
    until(lambda: task.ended() == task.began())


def test_dagrun_timeout_ends_the_job(run) -> None:
    task = run("limited_run")
    until(task.began)
    until(lambda: task.ended() == task.began())
    assert task.state() == "skipped"
