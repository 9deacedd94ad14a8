"""An embedded FirecREST for the suite, whichever engine it is run for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import lifecycle
from firecrest_core.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.job import Job
from firecrest_local import LocalFirecREST, Plan, Settings

pytest.register_assert_rewrite("tests.conformance.suite")


@pytest.fixture(scope="session")
def f7t(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    settings = Settings(
        root=tmp_path_factory.mktemp("cluster"),
        cores=32,  # no test waits for another one's jobs
        accounting_lag=0.2,
        kill_wait=0.5,
        faults=Plan(),
    )
    with LocalFirecREST(settings) as server:
        yield server


@pytest.fixture
def faults(f7t: LocalFirecREST) -> Iterator[Any]:
    """What goes wrong in the server, until the test ends."""
    yield f7t.faults
    f7t.faults.clear()


@pytest.fixture
def connection(f7t: LocalFirecREST) -> Connection:
    return Connection(
        url=f7t.url,
        token_url=f7t.token_url,
        client_id=f7t.client_id,
        client_secret=f7t.client_secret,
        system=f7t.system,
    )


@pytest.fixture
def workdir(f7t: LocalFirecREST, request: pytest.FixtureRequest) -> Path:
    """A directory of the test's own on the cluster."""
    name = "".join(letter if letter.isalnum() else "-" for letter in f"{request.cls.__name__}-{request.node.name}")
    path = Path(f7t.home, name)
    path.mkdir()
    return path


@pytest.fixture
def ended(connection: Connection) -> Callable[[str], str]:
    """Wait until a job has ended, without any engine; return its state."""

    async def end(job_id: str) -> str:
        async with FirecRESTClient(connection) as client:
            job = Job(system=str(connection.system), job_id=job_id)
            return (await lifecycle.wait(client, job, poll_interval=0.2)).state.value

    return lambda job_id: asyncio.run(end(job_id))
