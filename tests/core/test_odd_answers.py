"""Submitting and waiting in a storm of one kind of odd answers: the job ends COMPLETED and its payload ran once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import lifecycle
from firecrest_core.api import backoff
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.errors import FirecRESTError, JobWithdrawn
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST, Plan, Settings

#: For each storm its rules. A rule strikes half of the requests that it can strike, unless it says otherwise.
STORMS: dict[str, list[dict[str, Any]]] = {
    **{
        f"gateway_page {page}": [{"fault": "gateway_page", "page": page}]
        for page in ("not_found", "maintenance", "login")
    },
    "gateway_page after the work": [{"fault": "gateway_page", "page": "bad_gateway", "done": True}],
    "home_noise": [{"fault": "home_noise", "probability": 1.0}],
    "file_error": [{"fault": "file_error"}],
    "file_error after the work": [{"fault": "file_error", "words": "Input/output error", "done": True}],
    "sbatch_error without words": [{"fault": "sbatch_error", "probability": 0.8}],
    "sbatch_error without words after the work": [{"fault": "sbatch_error", "done": True, "probability": 0.8}],
    "sbatch_error with words of the site": [
        {"fault": "sbatch_error", "words": words, "nth": [number], "probability": 1.0}
        for number, words in enumerate(
            (
                "Protocol authentication error",
                "Zero Bytes were transmitted or received",
                "Resource temporarily unavailable",
            ),
            1,
        )
    ],
    **{
        f"missing_job_id {kind}": [{"fault": "missing_job_id", "job_id": kind, "probability": 0.8}]
        for kind in ("absent", "null", "empty")
    },
    "list_error": [{"fault": "list_error", "status": status} for status in (408, 413, 500, 502)],
    "unreadable_rows": [{"fault": "unreadable_rows", "probability": 1.0}],
    "malformed errors": [{"fault": "status", "status": 500, "body": '{"errorType": "validation", "data": "x"}'}],
    "trickle": [{"fault": "trickle", "interval": 0.2, "first": 6}],
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalFirecREST]:
    settings = Settings(root=tmp_path / "cluster", cores=4, accounting_lag=0.2, kill_wait=0.3, faults=Plan())
    with LocalFirecREST(settings) as running:
        yield running


@pytest.mark.parametrize("storm", STORMS)
async def test_job_survives_a_storm(storm: str, server: LocalFirecREST, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "LONGEST_PAUSE", 0.1)  # many questions, so that the fault strikes often
    connection = replace(Connection.from_environment(server.environ), timeout=0.5)
    async with FirecRESTClient(connection) as client:
        system = client.system(server.system)
        await client.list_systems()  # the URL was right
        server.faults.set({"seed": 3, "rules": [{"probability": 0.5, **rule} for rule in STORMS[storm]]})

        async def run(name: str) -> JobState:
            script = f"#!/bin/bash\necho ran >> {name}.runs\nsleep 0.5\n"
            spec = JobSpec(script=script, working_dir=str(server.home), name=name)
            job = await lifecycle.submit(system, spec, ClaimKey(name), first_attempt=True)
            return (await lifecycle.wait(system, job, poll_interval=0.05)).state

        # Three waits ask for the list.
        async with asyncio.timeout(60):
            states = await asyncio.gather(*(run(name) for name in ("one", "two", "three")))
        assert states == [JobState.COMPLETED] * 3
        assert server.faults.counts
        assert [(server.home / f"{name}.runs").read_text() for name in ("one", "two", "three")] == ["ran\n"] * 3


@pytest.mark.parametrize("option", ["--parsable", "--quiet"])
async def test_submission_whose_id_the_server_cannot_read(option: str, server: LocalFirecREST) -> None:
    async with FirecRESTClient(Connection.from_environment(server.environ)) as client:
        system = client.system(server.system)
        script = f"#!/bin/bash\n#SBATCH {option}\necho ran >> runs\n"
        spec = JobSpec(script=script, working_dir=str(server.home), name="silent")
        job = await lifecycle.submit(system, spec, ClaimKey("silent"), first_attempt=True)
        assert (await lifecycle.wait(system, job, poll_interval=0.05)).state is JobState.COMPLETED
        assert (server.home / "runs").read_text() == "ran\n"


@pytest.mark.parametrize(
    "rules",
    [
        [{"fault": "disk_quota", "first": 3}],
        [{"fault": "file_error", "first": 3}],
        [{"fault": "file_error", "done": True, "first": 3}],
        [{"fault": "home_noise"}],
    ],
    ids=lambda rules: str(rules[0]["fault"]) + " after the work" * rules[0].get("done", False),
)
async def test_cancelled_job_never_runs(rules: list[dict[str, Any]], server: LocalFirecREST) -> None:
    """Cancelling either succeeds or says that it has failed. After a success no payload starts."""
    async with FirecRESTClient(Connection.from_environment(server.environ)) as client:
        system = client.system(server.system)
        key = ClaimKey("held")
        # It waits for its begin, so its claim is free when it is cancelled.
        script = "#!/bin/bash\n#SBATCH --begin=now+2\necho ran >> held.runs\n"
        job = await lifecycle.submit(system, JobSpec(script=script, working_dir=str(server.home), name="held"), key)
        server.faults.set({"rules": rules})
        async with asyncio.timeout(30):
            while True:
                try:
                    await lifecycle.cancel(system, job)
                    break
                except FirecRESTError:
                    continue
        assert server.faults.counts
        server.faults.clear()
        with pytest.raises(JobWithdrawn):
            await lifecycle.submit(system, JobSpec(script=script, working_dir=str(server.home), name="held"), key)
        await asyncio.sleep(2.5)
        assert not (server.home / "held.runs").exists()
