"""Every test has a Prefect of its own: a temporary home and an ephemeral API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session", autouse=True)
def prefect_api() -> Iterator[None]:
    """An API with a database that is thrown away."""
    with prefect_test_harness(server_startup_timeout=120):
        yield
