"""An embedded FirecREST with small limits, and a staging store that breaks off on demand."""

from __future__ import annotations

import asyncio
import io
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from firecrest_core import Connection, FirecRESTClient, System
from firecrest_core.transfer import jobs, limits, remote, store
from firecrest_local import LocalFirecREST, Settings

KIB = 1024
LIMIT = 64 * KIB
PART = 16 * KIB

_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
JOINED = f'<?xml version="1.0"?>\n<CompleteMultipartUploadResult {_NAMESPACE}/>'.encode()
ERROR = f'<?xml version="1.0"?>\n<Error {_NAMESPACE}><Code>InternalError</Code></Error>'.encode()


@pytest.fixture(scope="module")
def f7t(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    root = tmp_path_factory.mktemp("cluster")
    settings = Settings(root=root, max_ops_file_size=LIMIT, max_part_size=PART, accounting_lag=0.0)
    with LocalFirecREST(settings) as server:
        yield server


@pytest.fixture
def connection(f7t: LocalFirecREST) -> Connection:
    return Connection.from_environment(f7t.environ)


@pytest.fixture
async def client(connection: Connection) -> AsyncIterator[FirecRESTClient]:
    async with FirecRESTClient(connection) as client:
        yield client


@pytest.fixture
def system(client: FirecRESTClient) -> System:
    return client.system()


@pytest.fixture
def there(f7t: LocalFirecREST) -> Path:
    """A directory on the system for one test; the embedded system's paths are this machine's."""
    return Path(tempfile.mkdtemp(prefix="test-", dir=f7t.home))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "VISIBLE_WITHIN", 0.0)
    monkeypatch.setattr(jobs, "POLL_INTERVAL", 0.1)
    monkeypatch.setattr(limits, "SMALLEST_PART", PART)
    monkeypatch.setattr(limits, "USUAL_PART", PART)


@dataclass
class FakeStore:
    """A staging store that does to a request what a test wants of it.

    :param faults: what happens to the next requests of a kind, in order: ``cut`` breaks the connection in the
        middle of the body, a number answers with that status and S3's code behind it, ``trickle`` sends the answer byte
        by byte without an end, and what begins with ``<`` is the body of a 200
    :param left: how many clients have closed their connection while an answer trickled
    """

    content: bytes = b""
    parts: dict[int, bytes] = field(default_factory=dict)
    completed: bytes = b""
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)
    answer: Callable[[dict[str, str]], tuple[str, dict[str, str], bytes]] | None = None
    most_at_once: int = 0
    left: int = 0
    _now: int = 0
    port: int = 0

    def url(self, part: int | None = None) -> SecretStr:
        number = "" if part is None else f"&partNumber={part}"
        return SecretStr(f"http://127.0.0.1:{self.port}/bucket/key?uploadId=u{number}&X-Amz-Signature=s3cret")

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._now -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0))
        self.requests.append((method, headers.get("range", target)))
        self.headers.append(headers)
        fault = self.faults.get(method, [])
        fault = fault.pop(0) if fault else ""
        if fault == "cut" and method == "PUT":
            await reader.readexactly(length // 2)
            return False
        body = await reader.readexactly(length)
        if fault == "trickle":
            return await self._trickle(writer)
        if fault[:3].isdigit():
            code = f"<Code>{fault[4:] or 'SlowDown'}</Code><Resource>/bucket/key?X-Amz-Signature=s3cret</Resource>"
            return await self._reply(writer, f"{fault[:3]} No", {}, f"<Error>{code}</Error>".encode())
        if method == "PUT":
            number = int(target.partition("partNumber=")[2].partition("&")[0])
            self.parts[number] = body
            return await self._reply(writer, "200 OK", {"ETag": f'"etag{number}"'}, b"")
        if method == "POST":
            self.completed = body
            if fault == "lost":
                return False
            if fault:
                return await self._reply(writer, "200 OK", {}, fault.encode() if fault[0] == "<" else ERROR)
            return await self._reply(writer, "200 OK", {}, JOINED)
        if self.answer is not None:
            return await self._reply(writer, *self.answer(headers))
        start, stop = map(int, headers["range"].removeprefix("bytes=").split("-"))
        data = self.content[start : stop + 1]
        spoken = {"Content-Range": f"bytes {start}-{stop}/{len(self.content)}"}
        if fault == "cut":
            return await self._reply(writer, "206 Partial", spoken, data, cut=len(data) // 2)
        return await self._reply(writer, "206 Partial", spoken, data)

    async def _trickle(self, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-9/10\r\nX-Padding: ")
        try:
            while True:
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            self.left += 1
        return False

    async def _reply(
        self, writer: asyncio.StreamWriter, status: str, headers: dict[str, str], body: bytes, cut: int | None = None
    ) -> bool:
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body[:cut])
        await writer.drain()
        return cut is None


@pytest.fixture
async def fake_store() -> AsyncIterator[FakeStore]:
    fake = FakeStore()
    server = await asyncio.start_server(fake.handle, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    yield fake
    server.close()


@pytest.fixture
async def staging(fake_store: FakeStore) -> AsyncIterator[store.Store]:
    """Our client of the fake store."""
    nowhere = f"http://127.0.0.1:{fake_store.port}"
    connection = Connection(url=nowhere, token_url=nowhere, client_id="me", client_secret="secret")
    async with store.Store(replace(connection, timeout=5.0)) as ours:
        yield ours


@pytest.fixture
def write_tar(tmp_path: Path) -> Callable[..., Path]:
    """Write an archive of members that are given as name, type, and content or link text."""

    def write(*members: tuple[str, bytes, bytes | str], mode: int = 0o644) -> Path:
        path = tmp_path / "x.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for name, kind, what in members:
                member = tarfile.TarInfo(name)
                member.type, member.mode = kind, mode
                if isinstance(what, str):
                    member.linkname = what
                else:
                    member.size = len(what)
                tar.addfile(member, io.BytesIO(what) if isinstance(what, bytes) else None)
        return path

    return write
