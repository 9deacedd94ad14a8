"""The numbers that an engine's metrics get."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from firecrest_core import telemetry
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.errors import FirecRESTError
from firecrest_core.jobs.job import Job


class Taken:
    def __init__(self) -> None:
        self.counts: list[tuple[str, dict[str, str]]] = []
        self.gauges: list[tuple[str, float, dict[str, str]]] = []
        self.timings: list[tuple[str, float, dict[str, str]]] = []

    def count(self, name: str, **tags: str) -> None:
        self.counts.append((name, tags))

    def gauge(self, name: str, value: float, **tags: str) -> None:
        self.gauges.append((name, value, tags))

    def timing(self, name: str, seconds: float, **tags: str) -> None:
        self.timings.append((name, seconds, tags))


@pytest.fixture
def taken() -> Iterator[Taken]:
    taken = Taken()
    telemetry.give_to(taken)
    yield taken
    telemetry.give_to(None)


async def test_requests_are_counted_by_status(client: FirecRESTClient, httpserver: Any, taken: Taken) -> None:
    for status in (200, 503, 200):
        httpserver.expect_oneshot_request("/status/systems").respond_with_json({"systems": []}, status)
    for _ in range(2):
        await client.list_systems()
    assert taken.counts == [("requests", {"method": "GET", "status": status}) for status in ("200", "503", "200")]
    assert [name for name, _, _ in taken.timings] == ["request"] * 3


async def test_a_server_that_does_not_answer_counts_too(connection: Connection, taken: Taken) -> None:
    async with FirecRESTClient(replace(connection, url="http://127.0.0.1:9"), attempts=1) as client:
        with pytest.raises(FirecRESTError):
            await client.list_systems()
    assert taken.counts == [("requests", {"method": "GET", "status": "none"})]


def test_jobs_are_told_by_phase(site: Any, virtually: Any, taken: Taken) -> None:
    def row(state: str, job_id: str) -> dict[str, Any]:
        return {"jobId": job_id, "name": "ok", "status": {"state": state}}

    def state(number: int, now: float) -> str:
        return "PENDING" if now < 10 * number else "RUNNING" if now < 30 else "COMPLETED"

    site.single = lambda job_id, now: [row(state(int(job_id), now), job_id)]
    site.listed = lambda now: [row(state(number, now), str(number)) for number in (1, 2, 3)]
    jobs = [Job(system="rig", job_id=str(number)) for number in (1, 2, 3)]

    async def wait() -> None:
        await asyncio.gather(*(site.watcher().wait(job, poll_interval=5) for job in jobs))

    virtually(wait())
    told = [(name, value) for name, value, tags in taken.gauges if tags == {"system": "rig"}]
    assert told[:2] == [("jobs.waiting", 3), ("jobs.running", 0)]
    assert ("jobs.running", 2) in told
    assert told[-2:] == [("jobs.waiting", 0), ("jobs.running", 0)]
    assert {name for name, _, _ in taken.timings} == {"poll"}


async def test_a_taker_that_fails_harms_nothing(client: FirecRESTClient, httpserver: Any, mocker: Any) -> None:
    taker = mocker.Mock()
    taker.count.side_effect = taker.timing.side_effect = OSError
    telemetry.give_to(taker)
    httpserver.expect_request("/status/systems").respond_with_json({"systems": []})
    assert await client.list_systems() == []
    telemetry.give_to(None)
    assert taker.count.called
