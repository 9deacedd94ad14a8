"""An embedded FirecREST before a real Slurm."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from demo.cluster import Cluster
from demo.slurm import Slurm
from firecrest_core import Connection, FirecRESTClient


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session")
def cluster(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("slurm") / "cluster", slurm=slurm) as cluster:
        cluster.wait()
        yield cluster


@pytest.fixture(scope="session")
def connection(cluster: Cluster) -> Connection:
    return Connection.from_environment(cluster.variables)


@pytest.fixture
async def client(connection: Connection) -> AsyncIterator[FirecRESTClient]:
    async with FirecRESTClient(connection) as client:
        yield client


@pytest.fixture
def workdir(cluster: Cluster, tmp_path: Path) -> Path:
    """A directory on the cluster for this test alone."""
    path = Path(cluster.variables["FIRECREST_WORKDIR"]) / tmp_path.name
    path.mkdir()
    return path
