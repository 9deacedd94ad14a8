"""One real Airflow beside an embedded FirecREST for all tests of this directory."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from harness.airflow.deployment import USER
from harness.airflow.runs import DAGRun, wait_for_runs
from harness.airflow.stack import AirflowStack
from harness.errors import RunFailed
from harness.examples import EXAMPLE_DAGS, ROOT
from tests.e2e.hpc_jobs_page import log_in
from tests.e2e.rights_per_dag import RightsPerDag

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent
VIEWER = "vera"
DAGS = (
    "structure_energy",
    "train_model",
    "parameter_sweep",
    "array_sweep",
    "python_function",
    "train_with_checkpoints",
    "race_the_queues",
    "limited",
    "fails",
)
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)
    # An Airflow that has nothing to do takes time all the same: the shared one starts when the others have ended.
    items.sort(key=lambda item: item.path.is_relative_to(HERE) and "stack" in item.fixturenames)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    """Airflow with the example DAGs and those of these tests, and an embedded FirecREST."""
    folder = tmp_path_factory.mktemp("e2e")
    dags = folder / "dags"
    dags.mkdir()
    (dags / "examples").symlink_to(EXAMPLE_DAGS)
    (dags / "tests").symlink_to(HERE / "dags")
    variables = {
        "AIRFLOW__CORE__AUTH_MANAGER": f"{RightsPerDag.__module__}.{RightsPerDag.__name__}",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin,{VIEWER}:viewer",
        "PYTHONPATH": str(ROOT),
    }
    with AirflowStack(folder / "stack", dags, variables) as stack:
        stack.wait_for_dags(*DAGS)
        yield stack


@pytest.fixture(scope="module")
def page(chromium: Browser, stack: AirflowStack) -> Page:
    """A page of a browser in which Airflow's administrator is logged in."""
    return log_in(chromium, stack, USER, stack.airflow.password)


@pytest.fixture(scope="module")
def viewer(chromium: Browser, stack: AirflowStack) -> Page:
    """A page in which a user is logged in who may only read, and not all DAGs."""
    passwords = json.loads((stack.airflow.home / "passwords.json").read_text())
    return log_in(chromium, stack, VIEWER, passwords[VIEWER])


@pytest.fixture
def start_run(stack: AirflowStack) -> Callable[..., DAGRun]:
    """Start a run of a DAG with parameters."""

    def start_run(dag_id: str, **params: Any) -> DAGRun:
        # The id has the form of those of runs that are started in Airflow's UI.
        run = DAGRun(dag_id, f"manual__2026-08-01T12:00:00.{next(_numbers):06}+00:00")
        stack.api.trigger(run.dag_id, run.run_id, params)
        return run

    return start_run


@pytest.fixture
def wait_for_success(stack: AirflowStack) -> Callable[[DAGRun], None]:
    """Wait for a run that has to succeed."""

    def wait_for_success(run: DAGRun) -> None:
        wait_for_runs(stack.api, [run], Console())

    return wait_for_success


@pytest.fixture
def wait_for_failure(stack: AirflowStack) -> Callable[[DAGRun], str]:
    """Wait for a run that has to fail, and return the message, which holds the logs of the failed tasks."""

    def wait_for_failure(run: DAGRun) -> str:
        with pytest.raises(RunFailed) as failure:
            wait_for_runs(stack.api, [run], Console())
        return str(failure.value)

    return wait_for_failure


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    """A new folder for the structures of `structure_energy`."""
    folder = tmp_path / "structures"
    folder.mkdir()
    return folder
