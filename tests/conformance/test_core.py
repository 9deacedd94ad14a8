"""The suite for the core alone: what an engine is built of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from firecrest_core import lifecycle
from firecrest_core.claim import Key, identity
from firecrest_core.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.job import Job
from firecrest_core.jobspec import JobSpec
from tests.conformance.suite import Conformance, Engine, Outcome


class Core(Engine):
    """A caller that remembers which tasks it has begun, and no more."""

    def __init__(self, connection: Connection, where: str) -> None:
        self.connection = connection
        self.where = where
        self.begun: dict[str, Job | None] = {}

    def run(self, task: str, job: dict[str, Any]) -> Outcome:
        return asyncio.run(self._run(task, JobSpec(**job)))

    def lose(self, task: str, job: dict[str, Any]) -> str:
        return asyncio.run(self._with_client(self._submit, task, JobSpec(**job))).job_id

    def cancel(self, task: str) -> None:
        asyncio.run(self._with_client(self._cancel, task))

    async def _with_client(self, what: Any, *arguments: Any) -> Any:
        async with FirecRESTClient(self.connection) as client:
            return await what(client, *arguments)

    async def _submit(self, client: FirecRESTClient, task: str, spec: JobSpec) -> Job:
        key = Key(identity(self.where, task))
        first = task not in self.begun
        self.begun[task] = None
        if first:
            job = await lifecycle.start(client, str(self.connection.system), spec, key, fresh=True)
        else:
            job = await lifecycle.resume(client, str(self.connection.system), spec, key)
        self.begun[task] = job
        return job

    async def _cancel(self, client: FirecRESTClient, task: str) -> None:
        job = self.begun[task]
        assert job is not None
        assert job.key is not None
        await lifecycle.cancel_epoch(client, job.system, job.working_directory, job.key.identity, job.key.epoch)

    async def _run(self, task: str, spec: JobSpec) -> Outcome:
        async def to_the_end(client: FirecRESTClient) -> Outcome:
            job = await self._submit(client, task, spec)
            result = await lifecycle.wait(client, job, poll_interval=0.2)
            result = await lifecycle.settle(client, job, result, poll_interval=0.2)
            stdout, stderr = await lifecycle.output_tail(client, result)
            lifecycle.check(result, stderr, stdout)
            return Outcome(result.job_id, result.name, result.state.value, result.exit_code)

        return await self._with_client(to_the_end)


class TestCore(Conformance):
    @pytest.fixture
    def engine(self, connection: Connection, request: pytest.FixtureRequest) -> Engine:
        return Core(connection, request.node.name)
