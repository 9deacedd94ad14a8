"""No traceback with the variables of its frames shows a secret, as error trackers and rich print them."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from pytest_mock import MockerFixture
from rich.traceback import Traceback

from firecrest_core import FirecRESTClient, lifecycle
from firecrest_core.api import backoff
from firecrest_core.api.client import System
from firecrest_core.claims.secret_file import SecretFile, written
from firecrest_core.connection import Connection
from firecrest_core.errors import ConfigurationError, FirecRESTError, TransferFailed
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.render import submit_request
from firecrest_core.transfer import begin_upload, download, upload
from firecrest_core.transfer.encryption import decrypt, encrypt
from firecrest_core.transfer.limits import cut
from firecrest_core.transfer.store import Store

SECRET = "the-clients-own-secret"
TOKEN = "the-access-token"
SIGNATURE = "the-signature-of-a-url"
VALUE = "the-value-of-a-variable"
SIZE = 65 * 1024


def hidden(error: BaseException, kind: type[BaseException] = FirecRESTError) -> None:
    """Expect an error of a kind, and no secret in a traceback that shows everything."""
    assert isinstance(error, kind)
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    rich = Traceback.extract(
        type(error), error, error.__traceback__, show_locals=True, locals_max_length=None, locals_max_string=None
    )
    frames = [frame for stack in rich.stacks for frame in stack.frames]
    pretty = "".join(str(value) for frame in frames for value in (frame.locals or {}).values())
    assert type(error).__name__ in shown
    for secret in (SECRET, TOKEN, SIGNATURE, VALUE):
        assert secret not in shown
        assert secret not in pretty


async def caught(call: Awaitable[Any]) -> BaseException:
    try:
        await call
    except BaseException as error:
        return error
    raise AssertionError("no error")


RANGE = {"Content-Range": "bytes 0-9/10"}


class Network(httpx.AsyncBaseTransport):
    """Answers as a site does, and breaks the requests that the test names.

    :param breaks: what happens to requests whose path ends so: a status, or an error
    """

    def __init__(self, breaks: dict[str, Any]) -> None:
        self.breaks = breaks
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        # What httpcore and h11 have in their frames.
        sent = (request.method, str(request.url), request.headers.raw, await request.aread())
        for end, what in self.breaks.items():
            if request.url.path.endswith(end):
                if isinstance(what, int):
                    return httpx.Response(what, json={"error": "x"})
                if isinstance(what, str):
                    return httpx.Response(206, headers=RANGE, content=Broken(what, sent))
                raise what
        if request.url.path == "/token":
            return httpx.Response(200, json={"access_token": TOKEN, "expires_in": 300})
        return httpx.Response(500, json={"errorType": "error", "message": "no"})


class Broken(httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, begin: str, sent: Any) -> None:
        self._begin = begin
        self._sent = sent

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._begin.encode()
        raise RuntimeError("in the midst of the answer")


class Killed(BaseException):
    """What a time limit of an engine raises in whatever frame is running."""


# What happens to a request, and what its caller gets.
ERRORS: dict[str, tuple[Any, type[BaseException]]] = {
    "refused": (401, FirecRESTError),
    "forbidden": (403, FirecRESTError),
    "broken": (500, FirecRESTError),
    "moved": (302, FirecRESTError),
    "no connection": (httpx.ConnectError("no"), FirecRESTError),
    "timed out": (httpx.ReadTimeout("no"), FirecRESTError),
    "unforeseen": (RuntimeError("no"), RuntimeError),
    "killed": (Killed("no"), Killed),
    "cancelled": (asyncio.CancelledError("no"), asyncio.CancelledError),
    "half an answer": ("{", RuntimeError),
}
each_error = pytest.mark.parametrize(("what", "kind"), ERRORS.values(), ids=ERRORS)


@pytest.fixture(autouse=True)
def _once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "ATTEMPTS", 1)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FirecRESTClient]:
    """Make a client whose requests break as they shall."""
    connection = Connection(
        url="https://api.example.org", token_url="https://id.example.org/token", client_id="me",
        client_secret=SECRET, system="rig",
    )  # fmt: skip

    def connect(**breaks: Any) -> FirecRESTClient:
        network = Network({end.replace("_", "/"): what for end, what in breaks.items()})
        monkeypatch.setattr(httpx.AsyncClient, "_transport_for_url", lambda client, url: network)
        return FirecRESTClient(connection, attempts=1)

    return connect


@each_error
async def test_a_login(connect: Callable[..., FirecRESTClient], what: Any, kind: Any) -> None:
    hidden(await caught(connect(token=what).list_systems()), kind)


CALLS: dict[str, Callable[[FirecRESTClient], Awaitable[Any]]] = {
    "by this package": lambda client: client.list_systems(),
    "by pyfirecrest": lambda client: client.system().get_userinfo(),
    "delete": lambda client: client.system().cancel_job("1"),
}


@each_error
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_request(connect: Callable[..., FirecRESTClient], call: Any, what: Any, kind: Any) -> None:
    hidden(await caught(call(connect(systems=what, userinfo=what, jobs_1=what))), kind)


@each_error
async def test_a_submission(connect: Callable[..., FirecRESTClient], what: Any, kind: Any) -> None:
    spec = JobSpec(working_dir="/home/me", command="date", environment={"SETTINGS": VALUE})
    client = connect(systems=500, jobs=what)
    system = client.system()

    async def submit() -> Any:
        return await system.submit_job(submit_request(spec, "slurm"))

    hidden(await caught(submit()), kind)
    hidden(await caught(lifecycle.submit(system, spec, wait_for_room=False)))


@each_error
async def test_a_file_with_secrets(
    connect: Callable[..., FirecRESTClient], mocker: MockerFixture, what: Any, kind: Any
) -> None:
    mocker.patch.multiple(System, make_directory=mocker.AsyncMock(), chmod=mocker.AsyncMock())
    spec = JobSpec(working_dir="/home/me", command="date", environment={"API_TOKEN": VALUE})
    file = SecretFile.of_claim(spec, "/home/me/.firecrest/task/0.0", "slurm")
    assert file is not None
    assert VALUE not in repr(file)

    async def write() -> None:
        async with written(connect(upload=what).system(), file):
            pass

    hidden(await caught(write()), kind)


async def fetch(store: Store, file: Path, url: SecretStr) -> None:
    async def write(at: int, data: bytes) -> None: ...
    async def whole(part: Any) -> None: ...

    await store.fetch(url, cut(10, 10), 10, write, whole)


async def send(store: Store, file: Path, url: SecretStr) -> None:
    await store.send(file, cut(10, 10), [url], url)


@each_error
@pytest.mark.parametrize("call", [fetch, send])
async def test_a_part(
    connect: Callable[..., FirecRESTClient],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Any,
    what: Any,
    kind: Any,
) -> None:
    monkeypatch.setattr("firecrest_core.transfer.store.ATTEMPTS", 1)
    client = connect(key=what)
    (tmp_path / "f").write_bytes(bytes(10))
    url = SecretStr(f"https://store.example.org/bucket/key?X-Amz-Signature={SIGNATURE}")

    async def run() -> None:
        async with Store(client.connection) as store:
            await call(store, tmp_path / "f", url)

    if kind is asyncio.CancelledError:  # a group of tasks takes it for one of them that has ended
        return
    hidden(await caught(run()), kind)


@pytest.mark.parametrize("url", ["https://[/?{}", "/key?{}", "s3://key/{}", "\n{}", "https://no-such-host.invalid/{}"])
async def test_a_url_that_leads_nowhere(staging: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firecrest_core.transfer.store.ATTEMPTS", 1)
    hidden(await caught(fetch(staging, Path(), SecretStr(url.format(SIGNATURE)))))


def test_a_stored_url_whose_secret_has_changed() -> None:
    stored = encrypt(SecretStr(f"https://store.example.org/{SIGNATURE}"), SecretStr("older"))
    with pytest.raises(TransferFailed) as raised:
        decrypt(stored, SecretStr(SECRET))
    hidden(raised.value)


# --- against the embedded server ------------------------------------------------------------------------


@pytest.fixture
def tickets(client: FirecRESTClient, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Any]], None]:
    """Change the answers to requests for transfers."""
    send = httpx.AsyncClient.send

    def tickets(change: Callable[[Any], Any]) -> None:
        async def changed(http: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
            answer = await send(http, request, **options)
            if request.url.path.endswith(("transfer/upload", "transfer/download")):
                body = json.loads(await answer.aread())
                return httpx.Response(answer.status_code, content=json.dumps(change(body)), request=request)
            return answer

        monkeypatch.setattr(httpx.AsyncClient, "send", changed)

    return tickets


def unusable(body: Any) -> Any:
    directives = body["transferDirectives"]
    signed = f"https://store.example.org/?X-Amz-Signature={SIGNATURE}"
    return body | {"transferDirectives": directives | {"partsUploadUrls": signed, "downloadUrl": [signed]}}


def plain(body: Any) -> Any:
    directives = body["transferDirectives"]
    signed = f"http://store.example.org/?X-Amz-Signature={SIGNATURE}"
    both = {"completeUploadUrl": signed, "partsUploadUrls": [signed], "downloadUrl": signed}
    return body | {"transferDirectives": {**directives, **{name: both[name] for name in both.keys() & directives}}}


def elsewhere(body: Any) -> Any:
    directives = body["transferDirectives"]
    signed = f"http://127.0.0.1:1/?X-Amz-Signature={SIGNATURE}"
    both = {"completeUploadUrl": signed, "partsUploadUrls": [signed] * 5, "downloadUrl": signed}
    return body | {"transferDirectives": {**directives, **{name: both[name] for name in both.keys() & directives}}}


@pytest.mark.parametrize("change", [unusable, plain, elsewhere])
async def test_a_transfer(
    system: System, there: Path, tmp_path: Path, tickets: Any, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    monkeypatch.setattr("firecrest_core.transfer.store.ATTEMPTS", 1)
    tickets(change)
    (tmp_path / "f").write_bytes(bytes(SIZE))
    (there / "g").write_bytes(bytes(SIZE))
    hidden(await caught(begin_upload(system, tmp_path / "f", f"{there}/")))
    hidden(await caught(upload(system, tmp_path / "f", f"{there}/")))
    hidden(await caught(download(system, str(there / "g"), tmp_path / "h")))


# --- the connection ---------------------------------------------------------------------------------------

VARIABLES = {
    "FIRECREST_URL": "https://api.example.org",
    "AUTH_TOKEN_URL": "https://id.example.org/token",
    "FIRECREST_CLIENT_ID": "me",
    "FIRECREST_CLIENT_SECRET": SECRET,
}


def missing() -> None:
    Connection.from_environment({name: value for name, value in VARIABLES.items() if name != "AUTH_TOKEN_URL"})


def wrong() -> None:
    Connection.from_environment({name: value.replace("https", "ftp") for name, value in VARIABLES.items()})


@pytest.mark.parametrize("read", [missing, wrong])
def test_an_environment(read: Callable[[], None]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read()
    hidden(raised.value)


def test_what_repr_shows() -> None:
    spec = JobSpec(working_dir="/home/me", command="date", environment={"SETTINGS": VALUE})
    request = submit_request(spec, "slurm")
    assert VALUE in (request.script or "")
    for shown in (repr(spec), str(spec), repr(request), repr([spec])):
        assert VALUE not in shown
    assert "SETTINGS" in repr(spec)
