"""Three minutes of every kind of outage, over the real client.

Waiting goes on, submissions wait, and few messages and requests are spent on it. The network is a stub
and the clock runs as fast as it can.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from firecrest_core import errors, lifecycle
from firecrest_core.api.backoff import Backoff
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.claims.owner import find_owner
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from firecrest_core.watch.watcher import JobWatcher

CONNECTION = Connection(
    url="https://api.example.org",
    token_url="https://id.example.org/token",
    client_id="me",
    client_secret="secret",
    system="rig",
)
SPEC = JobSpec(working_dir="/wd", command="true", name="relax")
BEGINS, ENDS = 100.0, 280.0
Fault = Callable[[httpx.Request], httpx.Response | None]


def fails(error: type[httpx.HTTPError], cause: Exception | None = None) -> Fault:
    def fault(request: httpx.Request) -> httpx.Response:
        raise error("no", request=request) from cause

    return fault


def answers(status: int, message: str = "", **headers: str) -> Fault:
    body = json.dumps({"errorType": "error", "message": message, "data": None}) if message else ""
    return lambda request: httpx.Response(status, content=body, headers=headers)


def page(status: int, text: str, kind: str = "text/html; charset=utf-8", **headers: str) -> Fault:
    """The answer of a gateway, and none of FirecREST's."""
    return lambda request: httpx.Response(status, content=text, headers={"Content-Type": kind, **headers})


def at_the_issuer(fault: Fault) -> Fault:
    """Every token is refused, and the one that issues them has the fault."""
    return lambda request: fault(request) if is_issuer(request) else httpx.Response(401)


def at_the_api(fault: Fault) -> Fault:
    return lambda request: None if is_issuer(request) else fault(request)


def is_issuer(request: httpx.Request) -> bool:
    return request.url.host == "id.example.org"


OUTAGES: dict[str, Fault] = {
    "refused": fails(httpx.ConnectError),
    "no name": fails(httpx.ConnectError, socket.gaierror(-3, "Temporary failure in name resolution")),
    "reset": fails(httpx.ReadError),
    "timeout": fails(httpx.ReadTimeout),
    "401": at_the_api(answers(401)),
    "408": at_the_api(answers(408, "Command execution timeout limit exceeded.")),
    "424": at_the_api(answers(424, "Unable to open a new SSH channel.")),
    "429": at_the_api(answers(429, "slow down", **{"Retry-After": "50"})),
    "500": at_the_api(answers(500, "Unexpected error")),
    "502": at_the_api(answers(502)),
    "503": at_the_api(answers(503, "The scheduler service for the requested system (rig) is unhealthy.")),
    "504": at_the_api(answers(504)),
    "500 malformed": at_the_api(page(500, '{"errorType": "validation", "data": "x"}', "application/json")),
    "no route": at_the_api(page(404, "404 page not found\n", "text/plain")),
    "no route in JSON": at_the_api(page(404, '{"message": "no Route matched"}', "application/json")),
    "firewall": at_the_api(page(403, "<html>Request blocked</html>")),
    "bad request of a proxy": at_the_api(page(400, "<html>400 Bad Request</html>")),
    "maintenance": at_the_api(page(200, "<html>Back at noon</html>")),
    "maintenance in JSON": at_the_api(page(200, '{"status": "maintenance"}', "application/json")),
    "redirection": at_the_api(page(302, "", Location="https://status.example.org")),
    "issuer refused": at_the_issuer(fails(httpx.ConnectError)),
    "issuer without a name": at_the_issuer(fails(httpx.ConnectError, socket.gaierror(-2, "unknown"))),
    "issuer 500": at_the_issuer(answers(500)),
    "issuer 429": at_the_issuer(answers(429, **{"Retry-After": "50"})),
    "issuer confused": at_the_issuer(answers(400)),
    "issuer in maintenance": at_the_issuer(page(200, "<html>Back at noon</html>")),
    "issuer without a route": at_the_issuer(page(404, "404 page not found\n", "text/plain")),
}
# What says nothing of the submission: the server may have acted on it.
PAGES = {
    "no route",
    "no route in JSON",
    "firewall",
    "bad request of a proxy",
    "maintenance",
    "maintenance in JSON",
    "redirection",
}
AMBIGUOUS = {"reset", "timeout", "408", "500", "502", "504", "500 malformed", *PAGES}


class Site:
    """A FirecREST whose jobs run until 400 s, behind an outage."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.requests: list[tuple[float, str]] = []
        self.submitted = 0
        self.claim = ""

    def client(self, connection: Connection, *, attempts: int = 1) -> FirecRESTClient:
        client = FirecRESTClient(connection, attempts=attempts)
        client.requests.session._transport = httpx.MockTransport(self.answer)
        return client

    def answer(self, request: httpx.Request) -> httpx.Response:
        now = asyncio.get_running_loop().time()
        self.requests.append((now, f"{request.method} {request.url.path}"))
        assert request.extensions["timeout"]["read"]
        assert request.extensions["timeout"]["connect"]
        if BEGINS <= now < ENDS and (answer := self.fault(request)) is not None:
            return answer
        path = request.url.path
        if path == "/token":
            return httpx.Response(200, json={"access_token": "token", "expires_in": 36000})
        if path == "/status/systems":
            return httpx.Response(200, json={"systems": [{"name": "rig"}]})
        if path.endswith("/ops/stat"):
            return httpx.Response(200, json={"output": {"mode": 0o40755, "size": 1}})
        if path.endswith("/ops/ls") and self.claim:
            return httpx.Response(200, json={"output": [{"name": self.claim, "type": "l", "linkTarget": "job-7"}]})
        if path.endswith("/ops/ls"):
            gone = "Remote process failed with exit status:2 and error message:ls: No such file or directory"
            return httpx.Response(404, json={"errorType": "error", "message": gone})
        if request.method == "POST":
            self.submitted += 1
            return httpx.Response(201, json={"jobId": "7"})
        state = "RUNNING" if now < 400 else "COMPLETED"
        ids = [str(number) for number in range(50)] if path.endswith("/jobs") else [path.rpartition("/")[2]]
        rows = [{"jobId": job_id, "name": "relax", "status": {"state": state}} for job_id in ids if self.submitted]
        return httpx.Response(200, json={"jobs": rows})

    @property
    def during(self) -> list[float]:
        return [at for at, _ in self.requests if BEGINS <= at < ENDS]


def test_pauses_grow_with_jitter_up_to_half_a_minute() -> None:
    outages, error = [Backoff(), Backoff()], errors.ServerUnreachable("no connection")
    pauses = [[outage.pause(error) for _ in range(9)] for outage in outages]
    assert pauses[0] != pauses[1]
    for pause, shortest in zip(pauses[0], [1, 2, 4, 8, 16, 30, 30, 30, 30], strict=True):
        assert shortest <= pause <= 1.25 * shortest


@pytest.mark.parametrize(("asked", "least"), [(0.0, 1), (50.0, 50), (86400.0, 600)])
def test_a_pause_is_as_long_as_the_server_asks_for_within_reason(asked: float, least: float) -> None:
    pause = Backoff().pause(errors.RateLimited("429", retry_after=asked))
    assert least <= pause <= 1.25 * least


def test_an_outage_is_reported_once_and_then_at_growing_intervals() -> None:
    outage = Backoff(began=1000.0)
    assert [at for at in range(4000) if outage.should_report(1000.0 + at)] == [0, 60, 120, 240, 480, 960, 1920, 3840]


@pytest.mark.parametrize("kind", OUTAGES)
def test_a_wait_that_begins_in_an_outage_goes_on_if_the_job_is_ours(kind: str, virtually: Any) -> None:
    site = Site(OUTAGES[kind])
    site.submitted = 1

    async def scene() -> None:
        await asyncio.sleep(BEGINS + 1)
        watcher = JobWatcher(CONNECTION, "rig", site.client)  # type: ignore[arg-type]
        result = await watcher.wait(Job(system="rig", job_id="7", submitted_at=1.0))
        assert result.succeeded

    virtually(scene())


@pytest.mark.parametrize("kind", sorted(PAGES - {"maintenance in JSON"}))
def test_a_wait_for_a_job_of_others_fails_if_the_url_seems_wrong(kind: str, virtually: Any) -> None:
    site = Site(OUTAGES[kind])

    async def scene() -> None:
        await asyncio.sleep(BEGINS + 1)
        watcher = JobWatcher(CONNECTION, "rig", site.client)  # type: ignore[arg-type]
        with pytest.raises(errors.UserError):
            await watcher.wait(Job(system="rig", job_id="7"))

    virtually(scene())


@pytest.mark.parametrize("kind", OUTAGES)
def test_the_claim_is_read_after_the_outage(kind: str, virtually: Any) -> None:
    site = Site(OUTAGES[kind])
    key = ClaimKey("task")
    job = Job(system="rig", job_id="7", working_dir="/wd", key=key)
    result = JobResult(job_id="7", system="rig", state=JobState.COMPLETED)
    site.claim = f"{key.directory('/wd').removeprefix('/wd/.firecrest/').partition('/')[2]}/claim"

    async def scene() -> None:
        async with site.client(CONNECTION) as client:
            client.trust_url()  # as `lifecycle.wait` does
            await asyncio.sleep(BEGINS + 1)
            assert await find_owner(client.system(), job, result) == result

    virtually(scene())


@pytest.mark.parametrize("kind", sorted(PAGES - {"maintenance in JSON"}))
def test_pages_without_end_fail_a_retry_that_has_not_reached_firecrest(kind: str, virtually: Any) -> None:
    fault = OUTAGES[kind]
    site = Site(fault)

    async def scene() -> None:
        async with site.client(CONNECTION) as client:
            answer = httpx.MockTransport(lambda request: fault(request) or site.answer(request))
            client.requests.session._transport = answer
            await lifecycle.submit(client.system(), SPEC, ClaimKey("task"))

    with pytest.raises(errors.UnexpectedAnswer, match="gateway"):
        virtually(scene())


def outage_reports(records: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize("kind", OUTAGES)
def test_waits_go_on(kind: str, count: int, virtually: Any) -> None:
    site = Site(OUTAGES[kind])
    site.submitted = 1
    messages: list[str] = []

    async def scene() -> None:
        watcher = JobWatcher(CONNECTION, "rig", site.client)  # type: ignore[arg-type]
        waits = [
            watcher.wait(Job(system="rig", job_id=str(number)), on_message=messages.append)
            for number in range(1, count + 1)
        ]
        assert all(result.succeeded for result in await asyncio.gather(*waits))

    virtually(scene())
    down = [line for line in messages if "still waiting" in line]
    assert count <= len(down) <= 3 * count
    assert len([line for line in messages if "the server answers again after" in line]) == count
    rounds = sorted(set(site.during))
    assert len(rounds) <= 12
    if "429" in kind:
        assert min(later - at for at, later in itertools.pairwise(rounds)) >= 50


@pytest.mark.parametrize("first_attempt", [True, False], ids=["first attempt", "retry"])
@pytest.mark.parametrize("kind", OUTAGES)
def test_submissions_with_a_claim_wait(
    kind: str, first_attempt: bool, virtually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(OUTAGES[kind])

    async def scene() -> None:
        async with site.client(CONNECTION) as client:
            if first_attempt:  # the outage comes after first contact: a retry needs none
                await client.system().info()
                await client.system().has_directory("/wd")
            await asyncio.sleep(BEGINS + 1)
            job = await lifecycle.submit(client.system(), SPEC, ClaimKey("task"), first_attempt=first_attempt)
            assert job.job_id == "7"

    virtually(scene())
    assert site.submitted == 1
    assert 2 <= len(outage_reports(caplog.records)) <= 4
    assert len(set(site.during)) <= 12


@pytest.mark.parametrize("kind", [kind for kind in OUTAGES if kind not in AMBIGUOUS])
def test_submissions_without_a_claim_wait(kind: str, virtually: Any, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(OUTAGES[kind])

    async def scene() -> None:
        async with site.client(CONNECTION) as client:
            await client.system().info()
            await client.system().has_directory("/wd")
            await asyncio.sleep(BEGINS + 1)
            assert (await lifecycle.submit(client.system(), SPEC)).job_id == "7"

    virtually(scene())
    assert site.submitted == 1
    assert 2 <= len(outage_reports(caplog.records)) <= 4


def test_an_answer_that_trickles_for_ever_is_given_up(virtually: Any) -> None:
    class Trickle(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            while True:
                await asyncio.sleep(20)
                yield b" "

    site = Site(lambda request: httpx.Response(200, stream=Trickle()))
    site.submitted = 1

    async def scene() -> None:
        watcher = JobWatcher(CONNECTION, "rig", site.client)  # type: ignore[arg-type]
        assert (await watcher.wait(Job(system="rig", job_id="7"))).succeeded
        assert asyncio.get_running_loop().time() < 500

    virtually(scene())
