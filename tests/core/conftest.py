"""A stub that plays the recorded exchanges over real HTTP, the recordings themselves, and a site with a fast clock."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import pytest
from pytest_httpserver import HTTPServer
from tenacity import wait_none
from werkzeug import Request, Response

from firecrest_core.api.client import FirecRESTClient
from firecrest_core.api.models import JobInfo
from firecrest_core.connection import Connection
from firecrest_core.watch.watcher import JobWatcher

CONTRACT = Path(__file__).parent.parent / "contract"


@pytest.fixture(scope="session")
def exchanges() -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads((CONTRACT / "exchanges.json").read_text())}


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries stay, their pauses go: what is tested is what is sent, not how long that takes."""
    monkeypatch.setattr("firecrest_core.api.backoff.wait_random_exponential", lambda *_, **__: wait_none())


@pytest.fixture
def token_requests() -> list[Request]:
    return []


@pytest.fixture
def connection(httpserver: HTTPServer, token_requests: list[Request]) -> Connection:
    def issue(request: Request) -> Response:
        token_requests.append(request)
        answer = {"access_token": f"token-{len(token_requests)}", "expires_in": 300, "token_type": "Bearer"}
        return Response(json.dumps(answer), content_type="application/json")

    httpserver.expect_request("/token", method="POST").respond_with_handler(issue)
    return Connection(
        url=httpserver.url_for("/"),
        token_url=httpserver.url_for("/token"),
        client_id="me",
        client_secret="very-secret",
        system="rig",
        timeout=5,
    )


@pytest.fixture
async def client(connection: Connection) -> AsyncIterator[FirecRESTClient]:
    async with FirecRESTClient(connection) as client:
        yield client


@pytest.fixture
def play(httpserver: HTTPServer, exchanges: dict[str, dict[str, Any]]) -> Callable[..., None]:
    """Answer the requests of the named recordings as the real server did, one after the other."""

    def play(*names: str, times: int = 1) -> None:
        for name in names:
            request, response = exchanges[name]["request"], exchanges[name]["response"]
            body = response["body"]
            for _ in range(times):
                httpserver.expect_oneshot_request(request["path"], method=request["method"]).respond_with_data(
                    body if isinstance(body, str) else json.dumps(body),
                    status=response["status"],
                    headers={k: v for k, v in response["headers"].items() if k != "content-length"},
                )

    return play


@pytest.fixture(scope="session")
def timeline() -> Callable[[str], dict[str, Any]]:
    """One recorded timeline by name."""
    return lambda name: json.loads((CONTRACT / "timelines" / f"{name}.json").read_text())


class _NoIdling(selectors.SelectSelector):
    """Moves the clock where an event loop would sleep."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("nothing is left that could happen")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which an hour of waiting takes no time."""

    def __init__(self) -> None:
        self._clock = _NoIdling()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


CONNECTION = Connection(
    url="https://api.example.org", token_url="https://id.example.org", client_id="me", client_secret="secret"
)


class Site:
    """A scheduler's answers as functions of the time in seconds, behind a client that counts the questions.

    An answer is a list of rows, or an error to raise.
    """

    def __init__(self) -> None:
        self.single: Callable[[str, float], Any] = lambda job_id, now: []
        self.listed: Callable[[float], Any] = lambda now: []
        self.latency = 0.01
        self.asked: list[tuple[float, str]] = []
        self.in_flight = self.most_in_flight = 0
        self.clients: Counter[str] = Counter()

    @property
    def counted(self) -> Counter[str]:
        return Counter(what for _, what in self.asked)

    def watcher(self, connection: Connection | None = None) -> JobWatcher:
        return JobWatcher.shared(connection or CONNECTION, "rig", self)  # type: ignore[arg-type]

    # --- the client: its constructor, and itself

    def __call__(self, connection: Connection, *, attempts: int) -> Self:
        assert attempts == 1
        self.clients["made"] += 1
        self.connection = connection
        return self

    def trust_url(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.clients["closed"] += 1

    def system(self, name: str) -> Self:
        assert name == "rig"
        return self

    async def get_job(self, job_id: str) -> list[JobInfo]:
        return await self._answer(job_id, lambda now: self.single(job_id, now))

    async def get_jobs(self, *, time_window: str) -> list[JobInfo]:
        return await self._answer(f"list {time_window}", self.listed)

    async def _answer(self, what: str, answer: Callable[[float], Any]) -> list[JobInfo]:
        now = asyncio.get_running_loop().time
        self.asked.append((now(), what))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency / 2)
            given = answer(now())
            await asyncio.sleep(self.latency / 2)
        finally:
            self.in_flight -= 1
        if isinstance(given, Exception):
            raise given
        return [one if isinstance(one, JobInfo) else JobInfo.model_validate(one) for one in given]


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture(scope="session")
def new_site() -> type[Site]:
    return Site


@pytest.fixture(scope="session")
def virtually() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on a clock of its own."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(coroutine)

    return run
