"""What flow runs leave in the working directories of their jobs: nothing, once they have completed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client

from firecrest_core import lifecycle
from firecrest_core.api.http import HTTPSession
from firecrest_core.errors import ServerUnreachable
from harness.examples import ROOT
from prefect_firecrest import FirecRESTJob
from prefect_firecrest.cancellation import monitor, records
from prefect_firecrest.cancellation.monitor import JobMonitor
from prefect_firecrest.cancellation.reconciler import Reconciler
from prefect_firecrest.runtime import runtime
from tests.accounting import accounted
from tests.prefect.real import until


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the test itself scan, at once after the flow's end, with a monitor of its own."""
    monkeypatch.setattr(lifecycle, "SETTLED_AFTER", 0.0)
    monkeypatch.setattr(monitor, "INTERVAL", 3600.0)
    runtime._states.pop(JobMonitor, None)
    yield
    runtime._states.pop(JobMonitor, None)


def wait_for_accounting(job: FirecRESTJob) -> None:
    asyncio.run(accounted(job.credentials.connection(), Path(job.working_dir)))


@task
def one(job: FirecRESTJob) -> None:
    job.trigger().wait_for_completion()


@flow
def many(job: FirecRESTJob, number: int, fails: bool = False) -> None:
    for each in [one.submit(job) for _ in range(number)]:
        each.result()
    wait_for_accounting(job)
    if fails:
        raise RuntimeError("of its own")


def scan() -> None:
    runtime.run(runtime.state(JobMonitor).scan())


def directories(workdir: Path) -> set[str]:
    return {path.name for path in (workdir / ".firecrest").iterdir() if path.is_dir()}


def artifacts() -> list[Any]:
    async def read() -> list[Any]:
        async with get_client() as client:
            return await records.read(client)

    return asyncio.run(read())


def test_a_flow_run_with_twenty_jobs_leaves_one_directory(
    make: Callable[..., FirecRESTJob], workdir: Path, requests: Counter[str]
) -> None:
    before = {artifact.id for artifact in artifacts()}
    many(make("true", stdout="/dev/null"), 20)
    assert len(directories(workdir)) == 20
    requests.clear()
    scan()
    assert requests == {"GET jobs": 1, "DELETE rm": 20}
    assert [path.name for path in workdir.iterdir()] == [".firecrest"]
    left = [path.name for path in (workdir / ".firecrest").iterdir()]
    assert len(left) <= 1
    assert all(name.startswith(".pruned-") for name in left)
    assert {artifact.id for artifact in artifacts()} <= before
    requests.clear()
    scan()
    assert not requests


def test_a_flow_run_that_failed_keeps_the_claims_for_a_retry(make: Callable[..., FirecRESTJob], workdir: Path) -> None:
    with pytest.raises(RuntimeError):
        many(make("true"), 2, fails=True)
    scan()
    assert len(directories(workdir)) == 2


def test_a_flow_run_that_runs_keeps_its_claims(make: Callable[..., FirecRESTJob], workdir: Path) -> None:
    @flow
    def inner(job: FirecRESTJob) -> None:
        job.trigger().wait_for_completion()
        wait_for_accounting(job)

    @flow
    def outer(job: FirecRESTJob) -> None:
        inner(job)
        scan()
        assert len(directories(workdir)) == 1

    outer(make("true"))
    scan()
    assert directories(workdir) == set()


def test_a_job_that_was_just_submitted_keeps_its_claim(
    make: Callable[..., FirecRESTJob], workdir: Path, monkeypatch: pytest.MonkeyPatch, requests: Counter[str]
) -> None:
    monkeypatch.setattr(lifecycle, "SETTLED_AFTER", 600.0)
    many(make("true"), 1)
    requests.clear()
    scan()
    assert len(directories(workdir)) == 1
    assert not requests


def test_a_job_that_is_left_running_keeps_its_claim(make: Callable[..., FirecRESTJob], workdir: Path) -> None:
    @flow
    def leaves(job: FirecRESTJob) -> Any:
        return job.trigger().job_id

    leaves(make("touch began; until [ -e go ]; do sleep 0.05; done"))
    until(lambda: (workdir / "began").exists(), "the start of the job")
    scan()
    assert len(directories(workdir)) == 1
    (workdir / "go").touch()


def test_an_outage_is_no_error(
    make: Callable[..., FirecRESTJob], workdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    many(make("true"), 1)

    async def fail(*_: Any) -> Any:
        raise ServerUnreachable("away")

    monkeypatch.setattr(HTTPSession, "_send_once", fail)
    caplog.clear()
    scan()
    assert len(directories(workdir)) == 1
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize("settled", [True, False])
def test_the_reconciler_removes_what_a_process_has_left(
    make: Callable[..., FirecRESTJob],
    credentials: Any,
    workdir: Path,
    monkeypatch: pytest.MonkeyPatch,
    settled: bool,
) -> None:
    credentials.save("inodes", overwrite=True)
    many(make("true", credentials=credentials), 2)
    monkeypatch.setattr(lifecycle, "SETTLED_AFTER", 0.0 if settled else 600.0)

    async def reconcile() -> None:
        reconciler = Reconciler(wait=False)
        await reconciler.reconcile_once()
        await reconciler.drain()

    before = len(artifacts())
    runtime.run(reconcile())
    assert len(directories(workdir)) == (0 if settled else 2)
    assert (len(artifacts()) < before) is settled


def test_a_script_cleans_up_while_it_exits(workdir: Path, f7t: Any, tmp_path: Path, api: Any, environment: Any) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import asyncio
import os
from pathlib import Path

from prefect import flow
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob
from firecrest_core import lifecycle
from tests.accounting import accounted

lifecycle.SETTLED_AFTER = 0.0

@flow
def short():
    job = FirecRESTJob(
        credentials=FirecRESTCredentials.from_environment(), working_dir=os.environ["WORKDIR"], command="true"
    )
    job.trigger().wait_for_completion()
    asyncio.run(accounted(job.credentials.connection(), Path(job.working_dir)))


short()
"""
    )
    subprocess.run(
        [sys.executable, script],
        env=environment | f7t.environ | {"WORKDIR": str(workdir), "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=120,
        capture_output=True,
    )
    assert directories(workdir) == set()
