"""A Prefect of our own, with a temporary home and an API in a process of its own, beside an embedded FirecREST."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_SSL_CERT_FILE, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob
from tests.prefect import real


@pytest.fixture(scope="session", autouse=True)
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An API with a database that is thrown away."""
    authority = real.authority(tmp_path_factory.mktemp("authority"))
    with (
        temporary_settings({PREFECT_API_SSL_CERT_FILE: str(authority)}),
        prefect_test_harness(server_startup_timeout=120),
    ):
        yield


@pytest.fixture
def credentials(f7t: LocalFirecREST) -> FirecRESTCredentials:
    return FirecRESTCredentials(
        url=f7t.url,
        token_url=f7t.token_url,
        client_id=f7t.client_id,
        client_secret=f7t.client_secret,
        system=f7t.system,
    )


@pytest.fixture
def make(credentials: FirecRESTCredentials, workdir: Path) -> Callable[..., FirecRESTJob]:
    """Describe a job that runs ``command`` in the test's directory, with further fields."""

    def make(command: str, **fields: Any) -> FirecRESTJob:
        known = {"credentials": credentials, "working_dir": str(workdir), "poll_interval": 0.2}
        return FirecRESTJob(command=command, **known | fields)

    return make


# --- a server of its own, and flows that it serves ----------------------------------------------------------


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables with which processes find the server, without those of the harness."""
    return real.environment(tmp_path_factory.mktemp("prefect"))


@pytest.fixture(scope="session")
def api(
    environment: dict[str, str], f7t: LocalFirecREST, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[real.Api]:
    """The server's API, as its UI uses it."""
    with real.server(environment, tmp_path_factory.mktemp("logs")) as api:
        real.store_credentials(environment, f7t)
        yield api


@pytest.fixture(scope="session")
def serve(
    api: real.Api, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., str]]:
    """Start runs of the flows that a process serves."""
    served = real.Served(api, environment, tmp_path_factory.mktemp("logs"))
    with served.running():
        yield served.start


@pytest.fixture
def lines(workdir: Path) -> Callable[[str], list[str]]:
    return lambda name: (workdir / name).read_text().split() if (workdir / name).exists() else []


@pytest.fixture
def states_in(credentials: FirecRESTCredentials) -> Callable[[Path], list[JobState]]:
    """Tell the states of all jobs that were submitted for a directory, whether they ran anything or not."""

    async def states(path: Path) -> list[JobState]:
        async with credentials.get_client() as client:
            rows = await client.system().get_jobs()
            return [row.state for row in rows if row.working_dir == str(path)]

    return lambda path: asyncio.run(states(path))


@pytest.fixture
def reconciled(environment: dict[str, str], api: real.Api, tmp_path: Path) -> Iterator[None]:
    """Run the reconciler, for one test."""
    command = [sys.executable, "-m", "prefect_firecrest.reconcile", "--crashed-for", "3600"]
    with real.process(command, environment, tmp_path / "reconciler"):
        yield
