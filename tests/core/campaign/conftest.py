"""An embedded FirecREST on which the jobs of a task follow each other without long waits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.connection import Connection
from firecrest_local import LocalFirecREST, Plan, Settings


@pytest.fixture(scope="module")
def f7t(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    """The server."""
    root = tmp_path_factory.mktemp("cluster")
    with LocalFirecREST(Settings(root=root, accounting_lag=0.0, kill_wait=0.3, faults=Plan())) as server:
        yield server


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that has lost its node does not come back, and no file is seen late."""
    monkeypatch.setattr("firecrest_core.watch.tracker.PROVISIONAL_GRACE", 0.0)
    monkeypatch.setattr("firecrest_core.campaign.CACHED", 0.0)


@pytest.fixture
async def system(f7t: LocalFirecREST) -> AsyncIterator[System]:
    """Its system."""
    async with FirecRESTClient(Connection.from_environment(f7t.environ)) as client:
        yield client.system()
