"""A stub that plays the recorded exchanges back over real HTTP, and the recordings themselves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from tenacity import wait_none
from werkzeug import Request, Response

from firecrest_core import client as client_module
from firecrest_core.client import FirecRESTClient
from firecrest_core.connection import Connection

CONTRACT = Path(__file__).parent.parent / "contract"


@pytest.fixture(scope="session")
def exchanges() -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads((CONTRACT / "exchanges.json").read_text())}


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries stay, their pauses go: what is tested is what is sent, not how long that takes."""
    monkeypatch.setattr(client_module, "_backoff", wait_none())
    monkeypatch.setattr("firecrest_core.auth._backoff", wait_none())


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
