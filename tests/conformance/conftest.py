"""Fixtures of the suite for all engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job

pytest.register_assert_rewrite("tests.conformance.suite")


@pytest.fixture
def ended(connection: Connection) -> Callable[[str], str]:
    """Wait for the end of a job, without an engine, and return its state."""

    async def wait_for_end(job_id: str) -> str:
        async with FirecRESTClient(connection) as client:
            job = Job(system=str(connection.system), job_id=job_id)
            return (await lifecycle.wait(client.system(), job, poll_interval=0.2)).state.value

    return lambda job_id: asyncio.run(wait_for_end(job_id))
