r"""The FirecREST under test: the one that the environment names, or embedded ones, with each scheduler.

The tests beside this file use only the public API, so they run against any deployment::

    FIRECREST_URL=… AUTH_TOKEN_URL=… FIRECREST_CLIENT_ID=… FIRECREST_CLIENT_SECRET=… \
    FIRECREST_SYSTEM=daint FIRECREST_WORKDIR=/scratch/me  pytest tests/live

They submit small jobs and write below ``FIRECREST_WORKDIR``, in a directory that they remove. With
``FIRECREST_MAX_SUBMIT_JOBS=25``, where the site limits the user so, they also submit more than that.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from firecrest_core import Connection, FirecRESTClient, System
from firecrest_core.errors import FirecRESTError
from harness.firecrest import FirecRESTServer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture(
    scope="session",
    params=["named"]
    if os.environ.get("FIRECREST_URL")
    else ["process", pytest.param("slurm", marks=pytest.mark.slurm)],
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The variables that name a FirecREST."""
    if request.param == "named":
        yield os.environ
        return
    slurm = request.getfixturevalue("slurm") if request.param == "slurm" else None
    with FirecRESTServer(tmp_path_factory.mktemp("live") / "cluster", slurm=slurm) as server:
        server.wait()
        yield server.variables


@pytest.fixture(scope="session")
def connection(site: Mapping[str, str]) -> Connection:
    return Connection.from_environment(site)


@pytest.fixture
async def client(connection: Connection) -> AsyncIterator[FirecRESTClient]:
    async with FirecRESTClient(connection) as client:
        yield client


@pytest.fixture
def system(client: FirecRESTClient) -> System:
    """The system that the tests run on."""
    return client.system()


@pytest.fixture(scope="session")
def workdir(connection: Connection, site: Mapping[str, str]) -> Iterator[str]:
    """A new directory on the system, removed at the end."""
    path = f"{site['FIRECREST_WORKDIR']}/firecrest-live-{uuid.uuid4().hex[:8]}"

    async def create() -> None:
        async with FirecRESTClient(connection) as client:
            await client.system().make_directory(path)

    async def remove() -> None:
        async with FirecRESTClient(connection) as client:
            await client.system().remove(path, missing_ok=True)

    asyncio.run(create())
    yield path
    try:
        asyncio.run(remove())
    except FirecRESTError as error:
        print(f"{path} is left behind: {error}")
