"""pyfirecrest words requests, our session sends them: what that stands on."""

from __future__ import annotations

import json
import ssl
import threading

import httpx
import pytest
from firecrest.v2 import AsyncFirecrest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from firecrest_core import errors
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.api.http import tls_context
from firecrest_core.connection import Connection

EXPLANATION = (
    "pyfirecrest does not send through its member `_session` any more, which firecrest_core/api/requests.py replaces: "
    "its requests would go out without a token, retries and our errors"
)


async def test_pyfirecrest_still_sends_through_the_member_that_we_replace() -> None:
    pyfirecrest = AsyncFirecrest("https://api.example.org", object())
    assert isinstance(getattr(pyfirecrest, "_session", None), httpx.AsyncClient), EXPLANATION
    await pyfirecrest.close_session()


async def test_its_requests_carry_our_token_and_an_id_of_their_own(
    client: FirecRESTClient, httpserver: HTTPServer
) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(json.dumps({"systems": []}), content_type="application/json")

    httpserver.expect_request("/status/systems").respond_with_handler(answer)
    for _ in range(2):
        await client.list_systems()
    assert [request.headers["Authorization"] for request in seen] == ["Bearer token-1"] * 2, EXPLANATION
    assert seen[0].headers["X-Request-ID"] != seen[1].headers["X-Request-ID"]


async def test_nothing_is_opened_before_the_first_request(client: FirecRESTClient) -> None:
    client.system("rig")
    assert "session" not in vars(client.requests)


@pytest.mark.parametrize("body", ["{}", "[]", "null", '{"output": null}'])
async def test_json_that_is_not_the_answer_is_a_fault_of_the_server(
    body: str, client: FirecRESTClient, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/filesystem/rig/ops/stat").respond_with_data(body, content_type="application/json")
    with pytest.raises(errors.ServerFault, match="not the form of FirecREST version 2"):
        await client.system().stat("/f")


async def test_a_session_that_is_being_made_holds_up_no_other(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM may interrupt the making of a session, and its handler needs one of its own in another thread."""
    made = threading.Event()

    def interrupted(verify: bool | str) -> ssl.SSLContext | bool:
        monkeypatch.undo()

        def of_the_handler() -> None:
            assert FirecRESTClient(connection).requests.pyfirecrest
            made.set()

        thread = threading.Thread(target=of_the_handler, daemon=True)
        thread.start()
        thread.join(20)
        return tls_context(verify)

    monkeypatch.setattr("firecrest_core.api.http.tls_context", interrupted)
    assert FirecRESTClient(connection).requests.pyfirecrest
    assert made.is_set()
