"""A real Airflow beside an embedded FirecREST, started as the demo starts them, for all tests here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from demo.runs import Run, RunFailed, follow
from demo.stack import Stack

DAGS = ("structure_energy", "train_model", "parameter_sweep")
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Airflow with the example DAGs, and its connection to the embedded FirecREST."""
    with Stack(tmp_path_factory.mktemp("e2e") / "stack") as stack:
        stack.wait_for_dags(*DAGS)
        yield stack


@pytest.fixture
def start(stack: Stack) -> Callable[..., Run]:
    """Start a run of a DAG with parameters."""

    def start(dag_id: str, **params: Any) -> Run:
        # The form of the ids that Airflow gives to runs that are started in its UI.
        run = Run(dag_id, f"manual__2026-08-01T12:00:00.{next(_numbers):06}+00:00")
        stack.api.trigger(run.dag_id, run.run_id, params)
        return run

    return start


@pytest.fixture
def succeed(stack: Stack) -> Callable[[Run], None]:
    """Wait for a run that has to be successful."""

    def succeed(run: Run) -> None:
        follow(stack.api, [run], Console())

    return succeed


@pytest.fixture
def fail(stack: Stack) -> Callable[[Run], str]:
    """Wait for a run that has to fail; returns what is said about it, with the failed tasks' logs."""

    def fail(run: Run) -> str:
        with pytest.raises(RunFailed) as failure:
            follow(stack.api, [run], Console())
        return str(failure.value)

    return fail


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    """A folder where structures arrive."""
    folder = tmp_path / "structures"
    folder.mkdir()
    return folder
