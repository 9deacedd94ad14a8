"""A Prefect of our own, with a temporary home and an API in a process of its own, beside an embedded FirecREST."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.testing.utilities import prefect_test_harness

from firecrest_local import LocalFirecREST, Plan, Settings
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob


@pytest.fixture(scope="session", autouse=True)
def prefect_api() -> Iterator[None]:
    """An API with a database that is thrown away."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def f7t(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    """A server that takes 64 KiB directly, so that transfer jobs are cheap to have."""
    settings = Settings(
        root=tmp_path_factory.mktemp("cluster"),
        cores=32,  # no test waits for another one's jobs
        accounting_lag=0.2,
        max_ops_file_size=64 * 1024,
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
def credentials(f7t: LocalFirecREST) -> FirecRESTCredentials:
    return FirecRESTCredentials(
        url=f7t.url,
        token_url=f7t.token_url,
        client_id=f7t.client_id,
        client_secret=f7t.client_secret,
        system=f7t.system,
    )


@pytest.fixture
def workdir(f7t: LocalFirecREST, request: pytest.FixtureRequest) -> Path:
    """A directory of the test's own on the cluster."""
    path = Path(f7t.home, "".join(letter if letter.isalnum() else "-" for letter in request.node.name))
    path.mkdir()
    return path


@pytest.fixture
def make(credentials: FirecRESTCredentials, workdir: Path) -> Callable[..., FirecRESTJob]:
    """Describe a job that runs ``command`` in the test's directory, with further fields."""

    def make(command: str, **fields: Any) -> FirecRESTJob:
        known = {"credentials": credentials, "working_dir": str(workdir), "poll_interval": 0.2}
        return FirecRESTJob(command=command, **known | fields)

    return make
