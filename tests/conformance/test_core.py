"""The suite for the core alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, claim_identity
from firecrest_core.spec.jobspec import JobSpec
from tests.conformance.suite import Conformance, Engine, Outcome


class Core(Engine):
    """A caller that remembers only which tasks have started."""

    def __init__(self, connection: Connection, where: str) -> None:
        self.connection = connection
        self.where = where
        self.started: dict[str, Job | None] = {}

    def run(self, task: str, job: dict[str, Any]) -> Outcome:
        return asyncio.run(self._run(task, JobSpec(**job)))

    def crash_after_submission(self, task: str, job: dict[str, Any]) -> str:
        return asyncio.run(self._with_client(self._submit, task, JobSpec(**job))).job_id

    def cancel(self, task: str) -> None:
        asyncio.run(self._with_client(self._cancel, task))

    async def _with_client(self, what: Any, *arguments: Any) -> Any:
        async with FirecRESTClient(self.connection) as client:
            return await what(client, *arguments)

    async def _submit(self, client: FirecRESTClient, task: str, spec: JobSpec) -> Job:
        key = ClaimKey(claim_identity(self.where, task))
        first = task not in self.started
        self.started[task] = None
        job = await lifecycle.submit(client.system(), spec, key, first_attempt=first)
        self.started[task] = job
        return job

    async def _cancel(self, client: FirecRESTClient, task: str) -> None:
        job = self.started[task]
        assert job is not None
        await lifecycle.cancel(client.system(), job)

    async def _run(self, task: str, spec: JobSpec) -> Outcome:
        async def to_the_end(client: FirecRESTClient) -> Outcome:
            job = await self._submit(client, task, spec)
            result = await lifecycle.wait(client.system(), job, poll_interval=0.2)
            await lifecycle.raise_for_state(client.system(), result)
            return Outcome(result.job_id, result.name, result.state.value, result.exit_code)

        return await self._with_client(to_the_end)


class TestCore(Conformance):
    @pytest.fixture
    def engine(self, connection: Connection, request: pytest.FixtureRequest) -> Engine:
        return Core(connection, request.node.name)

    async def test_without_a_claim_a_secret_leaves_nothing(self, connection: Connection, workdir: Path) -> None:
        environment = {"HF_TOKEN": "hf_of-this-job"}
        spec = JobSpec(working_dir=str(workdir), command="echo $HF_TOKEN > seen", environment=environment)
        async with FirecRESTClient(connection) as client:
            job = await lifecycle.submit(client.system(), spec)
            await lifecycle.wait(client.system(), job, poll_interval=0.2)
        assert (workdir / "seen").read_text() == "hf_of-this-job\n"
        assert not list((workdir / ".firecrest").iterdir())
