"""The end of a job tells what it has used, with the meter's own file on an embedded FirecREST; the core alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import Connection, FirecRESTClient, JobResult, JobSpec, JobState, lifecycle
from firecrest_core.jobs.key import ClaimKey


def run(connection: Connection, workdir: Path, said: list[str], **fields: Any) -> JobResult:
    async def run() -> JobResult:
        async with FirecRESTClient(connection) as client:
            spec = JobSpec(working_dir=str(workdir), **fields)
            job = await lifecycle.submit(client.system(), spec, ClaimKey("task"), first_attempt=True)
            return await lifecycle.wait(client.system(), job, poll_interval=0.2, on_message=said.append)

    return asyncio.run(run())


@pytest.mark.parametrize("code", [0, 3])
def test_the_end_of_a_job_tells_what_it_has_used(
    code: int, connection: Connection, workdir: Path, requests: Counter[str]
) -> None:
    said: list[str] = []
    result = run(connection, workdir, said, command=f"head -c 60000000 /dev/zero | cksum; exit {code}", cpus_per_task=1)
    assert result.exit_code == code
    assert result.usage is not None
    assert result.usage.cpus == 1
    assert result.usage.cpu_seconds
    assert said[-1].startswith(f"Job {result.job_id} (job) used at least ")
    assert requests["GET download"] == 1


@pytest.mark.parametrize("fields", [{"usage": False}, {"array": "0-1"}])
def test_without_a_file_nothing_is_asked(
    fields: dict[str, Any], connection: Connection, workdir: Path, requests: Counter[str]
) -> None:
    result = run(connection, workdir, [], command="true", **fields)
    assert result.usage is None
    assert requests["GET download"] == 0


def test_a_file_that_cannot_be_used_is_no_error(connection: Connection, workdir: Path) -> None:
    file = ".firecrest/task/0.0/usage.json"
    command = f"trap - EXIT; head -c 10000 /dev/zero > {file}"
    result = run(connection, workdir, [], command=command)
    assert (result.state, result.usage) == (JobState.COMPLETED, None)
