"""What finished tasks leave in their working directory, and what removing it costs; the core alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, claim_identity
from firecrest_core.spec.jobspec import JobSpec
from tests.accounting import accounted


def test_twenty_tasks_leave_one_directory(connection: Connection, workdir: Path, requests: Counter[str]) -> None:
    async def run(system: Any, task: int) -> Job:
        key = ClaimKey(claim_identity("twenty", task))
        spec = JobSpec(working_dir=str(workdir), command="true", stdout="/dev/null")
        job = await lifecycle.submit(system, spec, key, first_attempt=True)
        assert (await lifecycle.wait(system, job, poll_interval=0.2)).succeeded
        return job

    async def run_all() -> None:
        async with FirecRESTClient(connection) as client:
            jobs = await asyncio.gather(*(run(client.system(), task) for task in range(20)))
            assert sum(path.is_symlink() for path in (workdir / ".firecrest").glob("*/*/*")) == 20
            await accounted(connection, workdir)
            requests.clear()
            assert await lifecycle.clean_up(client.system(), jobs) == jobs
            assert requests == {"GET jobs": 1, "DELETE rm": 20}

    asyncio.run(run_all())
    assert [path.name for path in workdir.iterdir()] == [".firecrest"]
    left = [path.name for path in (workdir / ".firecrest").iterdir()]
    assert len(left) <= 1
    assert all(name.startswith(".pruned-") for name in left)
