"""One real Prefect server beside an embedded FirecREST for all tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from harness.prefect.runs import wait_for_flow_runs
from harness.prefect.stack import FLOWS, PrefectStack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)
    # A server that has nothing to do takes time all the same: the shared one starts when the others have ended.
    items.sort(key=lambda item: item.path.is_relative_to(here) and "stack" in item.fixturenames)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectStack]:
    """A Prefect server with the example flows and an embedded FirecREST."""
    with PrefectStack(tmp_path_factory.mktemp("demo") / "stack") as stack:
        yield stack


@pytest.fixture(scope="session")
def finished_runs(stack: PrefectStack) -> dict[str, str]:
    """The id of a completed run of each example flow, by the flow's name. Three run at once."""
    finished: dict[str, str] = {}
    for first in range(0, len(FLOWS), 3):
        started = {stack.start(flow): flow for flow in FLOWS[first : first + 3]}
        wait_for_flow_runs(stack.api, started, Console())
        finished |= {flow: run_id for run_id, flow in started.items()}
    return finished
