"""An embedded FirecREST that runs its jobs through a real Slurm."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from firecrest_core import Connection, FirecRESTClient
from harness.firecrest import FirecRESTServer
from harness.slurm import Slurm


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session")
def firecrest(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirecRESTServer]:
    """An embedded FirecREST in its own process, with the Slurm."""
    with FirecRESTServer(tmp_path_factory.mktemp("slurm") / "cluster", slurm=slurm) as server:
        server.wait()
        yield server


@pytest.fixture(scope="session")
def connection(firecrest: FirecRESTServer) -> Connection:
    """The connection to `firecrest`."""
    return Connection.from_environment(firecrest.variables)


@pytest.fixture
async def client(connection: Connection) -> AsyncIterator[FirecRESTClient]:
    """A client of `firecrest`."""
    async with FirecRESTClient(connection) as client:
        yield client


@pytest.fixture
def workdir(firecrest: FirecRESTServer, tmp_path: Path) -> Path:
    """A new directory on the cluster."""
    path = Path(firecrest.variables["FIRECREST_WORKDIR"]) / tmp_path.name
    path.mkdir()
    return path
