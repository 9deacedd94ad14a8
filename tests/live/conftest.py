"""A FirecREST to talk to: the one that the environment names, else an embedded one of our own.

The tests beside this file use the public API alone, so they run against any deployment::

    FIRECREST_URL=… AUTH_TOKEN_URL=… FIRECREST_CLIENT_ID=… FIRECREST_CLIENT_SECRET=… \\
    FIRECREST_SYSTEM=daint FIRECREST_WORKDIR=/scratch/me  pytest tests/live

They submit small jobs and write below ``FIRECREST_WORKDIR``, in a directory that they remove.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from firecrest_core import Connection, FirecRESTClient
from firecrest_core.errors import FirecRESTError

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The variables that name a FirecREST."""
    if os.environ.get("FIRECREST_URL"):
        yield os.environ
        return
    root = tmp_path_factory.mktemp("firecrest-local")
    with (root / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "firecrest_local", "--root", str(root / "cluster")],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        variables: dict[str, str] = {}
        assert server.stdout is not None
        for line in server.stdout:  # it closes when the server ends, so this cannot hang on a dead one
            name, _, value = line.removeprefix("export ").strip().partition("=")
            variables[name] = shlex.split(value)[0]
            if name == "FIRECREST_WORKDIR":
                break
        assert "FIRECREST_WORKDIR" in variables, (root / "server.log").read_text()
        yield variables
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


@pytest.fixture(scope="session")
def system(site: Mapping[str, str]) -> str:
    return site["FIRECREST_SYSTEM"]


@pytest.fixture(scope="session")
def connection(site: Mapping[str, str]) -> Connection:
    return Connection.from_environment(site)


@pytest.fixture
async def client(connection: Connection) -> AsyncIterator[FirecRESTClient]:
    async with FirecRESTClient(connection) as client:
        yield client


@pytest.fixture(scope="session")
def workdir(connection: Connection, site: Mapping[str, str], system: str) -> Iterator[str]:
    """A directory on the system for this run alone."""
    path = f"{site['FIRECREST_WORKDIR']}/firecrest-live-{uuid.uuid4().hex[:8]}"

    async def make() -> None:
        async with FirecRESTClient(connection) as client:
            await client.make_directory(system, path)

    async def remove() -> None:
        async with FirecRESTClient(connection) as client:
            await client.remove(system, path, missing_ok=True)

    asyncio.run(make())
    yield path
    try:
        asyncio.run(remove())
    except FirecRESTError as error:
        print(f"{path} is left behind: {error}")
