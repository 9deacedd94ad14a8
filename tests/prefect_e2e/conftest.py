"""A real Prefect server beside an embedded FirecREST, started as the demo starts them, for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from demo.prefect.runs import follow
from demo.prefect.stack import FLOWS, PrefectStack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectStack]:
    """A Prefect server of its own, started as the demo starts it, with the example flows."""
    with PrefectStack(tmp_path_factory.mktemp("demo") / "stack") as stack:
        yield stack


@pytest.fixture(scope="session")
def finished(stack: PrefectStack) -> dict[str, str]:
    """A completed run of each example flow: its id."""
    started = {stack.start(flow): flow for flow in FLOWS}
    follow(stack.api, started, Console())
    return {flow: run_id for run_id, flow in started.items()}
