"""An embedded FirecREST on which the jobs of a task follow each other without long waits."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.api.http import HTTPSession
from firecrest_core.campaign import Campaign
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.result import JobResult
from firecrest_local import LocalFirecREST, Plan, Settings


@pytest.fixture(scope="module")
def f7t(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    """The server."""
    root = tmp_path_factory.mktemp("cluster")
    with LocalFirecREST(Settings(root=root, accounting_lag=0.0, kill_wait=0.3, faults=Plan())) as server:
        yield server


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that has lost its node does not come back, and no file is seen late."""
    monkeypatch.setattr("firecrest_core.watch.tracker.PROVISIONAL_GRACE", 0.0)
    monkeypatch.setattr("firecrest_core.campaign.CACHED", 0.0)


@pytest.fixture
async def system(f7t: LocalFirecREST) -> AsyncIterator[System]:
    """Its system."""
    async with FirecRESTClient(Connection.from_environment(f7t.environ)) as client:
        yield client.system()


@pytest.fixture
def follow_dying(system: System, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[int]]:
    """A function that submits and follows a campaign, killed before a request or behind it, at another one each job.

    It takes the campaign, its key, and how a worker submits again. It returns how many rounds it took.
    """

    async def follow_dying(campaign: Campaign, key: ClaimKey, **again: Any) -> int:
        send, sent, deadly = HTTPSession._send_once, 0, math.inf

        async def mortal(session: HTTPSession, method: str, url: str, options: dict[str, Any]) -> Any:
            nonlocal sent
            if session is not system._requests.session:  # the watcher's
                return await send(session, method, url, options)
            sent = number = sent + 1
            if number == deadly:
                raise asyncio.CancelledError
            try:
                return await send(session, method, url, options)  # an error answer is raised
            finally:
                if number == deadly - 0.5:
                    raise asyncio.CancelledError

        monkeypatch.setattr(HTTPSession, "_send_once", mortal)
        job: Job | JobResult = await campaign.submit(key, first_attempt=True)
        for round_ in itertools.count(2):  # dies before request 1, behind it, before request 2, …
            assert isinstance(job, Job)
            result = await lifecycle.wait(system, job, poll_interval=0.2)
            sent, deadly = 0, round_ / 2
            try:
                job = await campaign.follow(job, result)
                break
            except asyncio.CancelledError:
                pass
            finally:
                deadly = math.inf
            # A triggerer begins with the job that it has waited for, a worker with what the claims say.
            job = await (campaign.follow(job, result) if round_ % 4 < 2 else campaign.submit(key, **again))
        return round_

    return follow_dying
