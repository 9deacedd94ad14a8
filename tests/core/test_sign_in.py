"""Each way to sign in, against an embedded FirecREST that asks for it, and what is said where it fails."""

from __future__ import annotations

import asyncio
import base64
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from firecrest_core import JobSpec, errors, lifecycle
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.watch.watcher import JobWatcher
from firecrest_local import LocalFirecREST, Settings

Serve = Callable[..., LocalFirecREST]
SIGNING = "a long random text that signs records"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    servers: list[LocalFirecREST] = []

    def start(**settings: Any) -> LocalFirecREST:
        servers.append(LocalFirecREST(Settings(root=tmp_path / "cluster", accounting_lag=0.0, **settings)))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def printing(program: str) -> str:
    """Return the setting for a command that runs a line of Python."""
    return f"command:{shlex.join([sys.executable, '-c', program])}"


def by_own_token(server: LocalFirecREST, auth: str) -> Connection:
    return Connection.from_environment(
        {
            "FIRECREST_URL": server.url,
            "FIRECREST_SYSTEM": server.system,
            "FIRECREST_AUTH": auth,
            "FIRECREST_CLIENT_SECRET": SIGNING,
        }
    )


async def run_job(connection: Connection, server: LocalFirecREST) -> str:
    spec = JobSpec(script="#!/bin/bash\ntrue\n", working_dir=str(server.home))
    async with FirecRESTClient(connection) as client:
        job = await lifecycle.submit(client.system(), spec)
        return (await lifecycle.wait(client.system(), job, poll_interval=0.2)).state.value


# --- each kind, from the submission to the end of the job -----------------------------------------


@pytest.mark.parametrize("kind", ["client_secret_post", "client_secret_basic"])
async def test_a_client_whose_secret_goes_one_way_only(serve: Serve, kind: str) -> None:
    server = serve(token_auth=kind, client_id="me & co", client_secret="a:b%c+d e")
    assert await run_job(Connection.from_environment(server.environ), server) == "COMPLETED"


async def test_an_api_key(serve: Serve) -> None:
    server = serve(api_keys=("the-key",))
    connection = Connection.from_environment(server.environ)
    assert (connection.token_url, connection.client_id) == ("", "")
    assert await run_job(connection, server) == "COMPLETED"
    assert server.requests["POST", "/token"] == 0


@pytest.mark.parametrize("kind", ["command", "file", "env"])
async def test_a_token_of_the_users_own(
    serve: Serve, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    file = tmp_path / "token"
    file.write_text(f"{server.issuer.issue()}\n")
    monkeypatch.setenv("MY_TOKEN", server.issuer.issue())
    auth = {
        "command": printing(f"print(open({str(file)!r}).read())"),
        "file": f"file:{file}",
        "env": "env:MY_TOKEN",
    }[kind]
    assert await run_job(by_own_token(server, auth), server) == "COMPLETED"
    assert server.requests["POST", "/token"] == 0


# --- API keys -------------------------------------------------------------------------------------


@pytest.fixture
def keyed(httpserver: HTTPServer) -> Connection:
    def answer(request: Request) -> Response:
        accepted = request.headers.get("X-API-Key") == "the-key" and "Authorization" not in request.headers
        body = {"systems": []} if accepted else {"message": "Invalid API key in request"}
        return Response(json.dumps(body), 200 if accepted else 401, content_type="application/json")

    httpserver.expect_request("/status/systems").respond_with_handler(answer)
    return Connection(url=httpserver.url_for("/"), auth="api_key", client_secret="the-key")


async def test_an_api_key_goes_alone(keyed: Connection) -> None:
    async with FirecRESTClient(keyed) as client:
        assert await client.list_systems() == []


async def test_an_api_key_that_is_refused(keyed: Connection, httpserver: HTTPServer) -> None:
    async with FirecRESTClient(replace(keyed, client_secret="another-key")) as client:
        for asked in (1, 2):  # the next request tries it again: the gateway may have erred
            with pytest.raises(errors.AuthenticationFailed, match="refuses the API key.*Check the API key") as caught:
                await client.list_systems()
            assert len(httpserver.log) == asked
        assert "another-key" not in str(caught.value)


async def test_an_api_key_that_is_changed_meanwhile(keyed: Connection) -> None:
    """An engine's client looks for a new one when it is told that the old one is refused."""

    class Rotated(FirecRESTClient):
        async def token(self) -> Any:
            try:
                return await super().token()
            except errors.AuthenticationFailed:
                self.use_credentials(keyed)
                return await super().token()

    async with Rotated(replace(keyed, client_secret="old-key")) as client:
        assert await client.list_systems() == []


async def test_two_api_keys_share_no_watcher(keyed: Connection) -> None:
    other = replace(keyed, client_secret="another-key")
    assert JobWatcher.shared(keyed, "daint") is not JobWatcher.shared(other, "daint")
    assert JobWatcher.shared(keyed, "daint") is JobWatcher.shared(replace(keyed), "daint")


# --- tokens of one's own --------------------------------------------------------------------------


def token(seconds: float) -> str:
    parts = ({"alg": "none"}, {"exp": time.time() + seconds, "n": time.monotonic_ns()})
    return ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts) + "."


@pytest.fixture
def accepted(httpserver: HTTPServer) -> set[str]:
    """The tokens that the stub server takes."""
    tokens: set[str] = set()

    def answer(request: Request) -> Response:
        known = request.headers.get("Authorization", "").removeprefix("Bearer ") in tokens
        body = {"systems": []} if known else {"message": "Access token is invalid."}
        return Response(json.dumps(body), 200 if known else 401, content_type="application/json")

    httpserver.expect_request("/status/systems").respond_with_handler(answer)
    return tokens


@pytest.fixture
def at(httpserver: HTTPServer) -> Callable[[str], FirecRESTClient]:
    """Return a client that signs in to the stub server in a given way."""
    url = httpserver.url_for("/")
    return lambda auth: FirecRESTClient(Connection(url=url, auth=auth, client_secret=SIGNING, timeout=5))


At = Callable[[str], FirecRESTClient]


async def test_a_token_that_is_refused_is_read_again_once(
    at: At, accepted: set[str], tmp_path: Path, httpserver: HTTPServer
) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    accepted.add("first")
    async with at(f"file:{file}") as client:
        await client.list_systems()
        accepted.clear()
        accepted.add("second")
        file.write_text("second")
        await client.list_systems()
        accepted.clear()
        sent = len(httpserver.log)
        with pytest.raises(errors.AuthenticationFailed, match=f"HTTP 401.*Check that the file '{file}'.* renew it"):
            await client.list_systems()
        assert len(httpserver.log) == sent + 1  # it is the same token


async def test_a_token_is_read_again_before_it_expires(at: At, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, start = tmp_path / "token", time.monotonic()
    old, new = token(3600), token(7200)
    file.write_text(old)
    async with at(f"file:{file}") as client:
        assert await value(client) == old
        file.write_text(new)
        for later, expected in ((3500, old), (3550, new)):
            monkeypatch.setattr("firecrest_core.api.auth.time.monotonic", lambda later=later: start + later)
            assert await value(client) == expected


async def value(client: FirecRESTClient) -> str:
    client.trust_url()  # opens the session
    return (await client.token()).get_secret_value()


async def test_a_command_runs_once_for_many_requests(at: At, accepted: set[str], tmp_path: Path) -> None:
    accepted.add("good")
    runs = tmp_path / "runs"
    async with at(printing(f"open({str(runs)!r}, 'a').write('x'); print('good')")) as client:
        await asyncio.gather(*(client.list_systems() for _ in range(8)))
    assert runs.read_text() == "x"


UNUSABLE = [
    (printing("print()"), "prints no token: it is empty"),
    (printing("print('hunter2\\nhunter2')"), "prints no token: a token is one line"),
    (printing("print('hunter2 hunter2')"), "prints no token: a token is one line"),
    (printing("print('x' * 10**6)"), "prints no token: a token is one line"),
    (printing("import sys; print('hunter2'); sys.exit('no agent runs')"), r"failed \(exit status 1\): no agent runs"),
    ("command:/no/such/program hunter2", "the command '/no/such/program' cannot be started on this machine"),
    ("file:/no/such/file", "the file '/no/such/file' cannot be read on this machine: No such file"),
    ("file:/", "the file '/' cannot be read"),
    ("env:NO_SUCH_VARIABLE_IS_SET", "the variable 'NO_SUCH_VARIABLE_IS_SET' holds no token: it is empty"),
]


@pytest.mark.parametrize(("auth", "words"), UNUSABLE)
async def test_what_gives_no_token(at: At, auth: str, words: str, httpserver: HTTPServer) -> None:
    async with at(auth) as client:
        with pytest.raises(errors.AuthenticationFailed, match=f"^auth: .*{words}") as caught:
            await client.list_systems()
    assert "hunter2" not in str(caught.value)
    assert httpserver.log == []


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "has expired. Renew it"), (25, r"expires in \d+ s, and FirecREST")]
)
async def test_a_token_that_firecrest_would_refuse(
    at: At, tmp_path: Path, seconds: float, words: str, mocker: Any, httpserver: HTTPServer
) -> None:
    mocker.patch("asyncio.sleep")
    (tmp_path / "token").write_text(token(seconds))
    async with at(f"file:{tmp_path / 'token'}") as client:
        with pytest.raises(errors.AuthenticationFailed, match=words):
            await client.list_systems()
    assert httpserver.log == []


async def test_a_token_that_is_not_there_at_once_is_read_again(at: At, accepted: set[str], tmp_path: Path) -> None:
    accepted.add("whole")
    seen = str(tmp_path / "seen")
    async with at(printing(f"import os; os.path.exists({seen!r}) and print('whole'); open({seen!r}, 'w')")) as client:
        await client.list_systems()


async def test_a_command_that_does_not_end(accepted: set[str], httpserver: HTTPServer, tmp_path: Path) -> None:
    auth = f"command:sh -c {shlex.quote(f'sleep 600 & echo $! > {tmp_path}/pid; wait')}"
    connection = Connection(url=httpserver.url_for("/"), auth=auth, client_secret=SIGNING, timeout=0.5)
    async with FirecRESTClient(connection, attempts=1) as client:
        with pytest.raises(errors.AuthenticationFailed, match="'sh' has not ended within 0.5 s"):
            await client.list_systems()
    left = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    async with asyncio.timeout(10):
        while left.exists() and left.read_text().rpartition(")")[2].split()[0] != "Z":
            await asyncio.sleep(0.01)


async def test_the_event_loop_runs_on_while_a_command_does(at: At, accepted: set[str], tmp_path: Path) -> None:
    accepted.add("good")
    go = tmp_path / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\nprint('good')"
    async with at(printing(wait)) as client:
        asking = asyncio.ensure_future(client.list_systems())
        await asyncio.to_thread(go.touch)
        await asking


async def test_a_wait_picks_up_a_renewed_token(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firecrest_core.api.backoff.LONGEST_PAUSE", 0.1)
    server = serve()
    file, go = tmp_path / "token", server.home / "go"
    file.write_text(server.issuer.issue())
    connection = by_own_token(server, f"file:{file}")
    spec = JobSpec(script=f"#!/bin/bash\nuntil [ -e {go} ]; do sleep 0.1; done\n", working_dir=str(server.home))
    async with FirecRESTClient(connection) as client:
        job = await lifecycle.submit(client.system(), spec)
        heard: list[str] = []
        waiting = asyncio.ensure_future(
            lifecycle.wait(client.system(), job, poll_interval=0.2, on_message=heard.append)
        )
        file.write_text("")
        monkeypatch.setattr(server.issuer, "_key", b"another key, so that the token is refused")
        async with asyncio.timeout(30):
            while not any(str(file) in line for line in heard):
                await asyncio.sleep(0.02)
        file.write_text(server.issuer.issue())
        go.touch()
        assert (await waiting).state.value == "COMPLETED"


# --- what issuers answer --------------------------------------------------------------------------


def issuing(httpserver: HTTPServer, answer: dict[str, Any], status: int = 200) -> Connection:
    httpserver.expect_request("/token").respond_with_json(answer, status=status)
    httpserver.expect_request("/status/systems").respond_with_json({"systems": []})
    return Connection(
        url=httpserver.url_for("/"), token_url=httpserver.url_for("/token"), client_id="me", client_secret="very-secret"
    )


def asked_for_tokens(httpserver: HTTPServer) -> int:
    return sum(request.path == "/token" for request, _ in httpserver.log)


@pytest.mark.parametrize("lifetime", [None, "300", "300.0", "five minutes", [], "NaN", 31, "45", 90, 120, 10**30])
async def test_lifetimes_that_serve(httpserver: HTTPServer, lifetime: Any) -> None:
    async with FirecRESTClient(issuing(httpserver, {"access_token": "good", "expires_in": lifetime})) as client:
        await asyncio.gather(*(client.list_systems() for _ in range(4)))
    assert asked_for_tokens(httpserver) == 1


async def test_a_lifetime_that_only_the_token_names(httpserver: HTTPServer) -> None:
    async with FirecRESTClient(issuing(httpserver, {"access_token": token(12)})) as client:
        with pytest.raises(errors.AuthenticationFailed, match=r"valid for 1[12]\.?\d* s"):
            await client.list_systems()


@pytest.mark.parametrize("lifetime", [30, 5, 0, "30"])
async def test_tokens_that_are_too_short_for_firecrest(httpserver: HTTPServer, lifetime: Any) -> None:
    async with FirecRESTClient(issuing(httpserver, {"access_token": "good", "expires_in": lifetime})) as client:
        with pytest.raises(errors.AuthenticationFailed, match=f"valid for {lifetime} s, and FirecREST refuses .*Ask"):
            await client.list_systems()
    assert len(httpserver.log) == 1


@pytest.mark.parametrize("lifetime", [60.0, 100.0])
async def test_short_tokens_end_to_end(serve: Serve, lifetime: float) -> None:
    server = serve(token_lifetime=lifetime)
    async with FirecRESTClient(Connection.from_environment(server.environ)) as client:
        for _ in range(5):
            await client.list_systems()
    assert server.requests["POST", "/token"] < 5


@pytest.mark.parametrize(
    ("auth", "other"),
    [("client_secret_post", "client_secret_basic"), ("client_secret_basic", "client_secret_post")],
)
async def test_a_secret_that_the_issuer_wants_otherwise(serve: Serve, auth: str, other: str) -> None:
    server = serve(token_auth=other)
    connection = replace(Connection.from_environment(server.environ), auth=auth)
    async with FirecRESTClient(connection) as client:
        with pytest.raises(errors.AuthenticationFailed, match=f"other way: set auth to {other}"):
            await client.list_systems()
    assert server.requests["POST", "/token"] == 1  # the other way is not tried by itself


async def test_a_wrong_secret_is_no_matter_of_the_way(httpserver: HTTPServer) -> None:
    async with FirecRESTClient(issuing(httpserver, {"error": "unauthorized_client"}, 401)) as client:
        with pytest.raises(errors.AuthenticationFailed, match="scopes.$"):
            await client.list_systems()
