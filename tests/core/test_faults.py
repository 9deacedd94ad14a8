"""Client and waiting on a server where much goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firecrest_core import lifecycle
from firecrest_core.api import backoff
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST, Plan, Settings

JOB = "/compute/{system_name}/jobs/{job_id}"

#: Each request of a submission fails before it works, in a way that says that nothing was done where that matters.
HARD_SUBMISSION = [
    {"fault": "status", "status": 503, "message": "Down", "route": "/token", "first": 1},
    {"fault": "reset", "route": "/status/systems", "nth": [1]},
    {"fault": "early_token_expiry", "route": "/status/systems", "nth": [2]},
    {"fault": "lose_answer", "route": "/filesystem/**", "nth": [1]},
    {"fault": "cut_body", "route": "/filesystem/**", "nth": [2]},
    {"fault": "status", "status": 429, "retry_after": 0, "method": "POST", "route": "/compute/**", "nth": [1]},
    {"fault": "status", "status": 424, "method": "POST", "route": "/compute/**", "nth": [2]},
    {"fault": "status", "status": 503, "method": "POST", "route": "/compute/**", "nth": [3]},
]

#: A good half of the questions after a job come to nothing.
STORM = [
    {"fault": fault, "method": "GET", "route": JOB, "probability": 0.1}
    for fault in ("reset", "lose_answer", "cut_body", "timeout_408", "early_token_expiry")
] + [
    {"fault": "status", "status": status, "retry_after": 0, "method": "GET", "route": JOB, "probability": 0.1}
    for status in (429, 500, 502, 503, 504)
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalFirecREST]:
    settings = Settings(root=tmp_path / "cluster", cores=2, accounting_lag=0.0, kill_wait=0.3, faults=Plan())
    with LocalFirecREST(settings) as running:
        yield running


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_storm(server: LocalFirecREST, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "LONGEST_PAUSE", 0.1)  # many questions, so that each fault strikes
    home = server.home
    server.faults.set({"rules": HARD_SUBMISSION})
    async with FirecRESTClient(Connection.from_environment(server.environ)) as client:
        script = "#!/bin/bash\necho >> {0}.runs\nuntil [ -e go ]; do sleep 0.05; done\nexit {1}\n"
        good = JobSpec(script=script.format("good", 0), working_dir=str(home), name="good")
        bad = JobSpec(script=script.format("bad", 3), working_dir=str(home), name="bad")
        jobs = [await lifecycle.submit(client.system(server.system), spec) for spec in (good, bad)]
        assert sum(server.faults.counts.values()) == len(HARD_SUBMISSION)

        messages: list[str] = []
        server.faults.set({"seed": 1, "invisible": 0.5, "rules": STORM})
        waits = [
            asyncio.create_task(lifecycle.wait(client.system(), job, poll_interval=0.05, on_message=messages.append))
            for job in jobs
        ]
        await until(lambda: len(server.faults.counts) == len(STORM))
        server.faults.set({"rules": [{"fault": "refuse"}]})
        await until(lambda: sum("cannot be read" in line for line in messages) >= 2)
        server.faults.set({"seed": 2, "accounting_lag": 0.5, "rules": STORM})
        (home / "go").touch()
        results = await asyncio.gather(*waits)

        assert [(result.state, result.exit_code) for result in results] == [
            (JobState.COMPLETED, 0),
            (JobState.FAILED, 3),
        ]
        server.faults.clear()
        rows = await client.system(server.system).get_jobs()
        assert sorted(row.name for row in rows) == ["bad", "good"]
        assert [(home / f"{name}.runs").read_text() for name in ("good", "bad")] == ["\n", "\n"]
