"""The limits of an exchange: what trickles ends, and what grows is not read on."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from firecrest_core import errors
from firecrest_core.api import exchange
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.connection import Connection

MIB = 1024 * 1024
JOB = SubmitRequest(name="j", working_directory="/wd", script="#!/bin/bash\n")


class Trickle:
    """A server that sends an answer byte by byte, without an end.

    :param head: where the trickling begins: the text before it is sent at once
    :ivar left: set when a client has closed its connection
    """

    def __init__(self, head: str) -> None:
        self.head = head
        self.left = asyncio.Event()
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.head.encode())
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            self.left.set()
        finally:
            writer.close()


@pytest.fixture(
    params=["HTTP/1.1 200 OK\r\nX-Padding:", "HTTP/1.1 200 OK\r\nContent-length: 100000\r\n\r\n", "HTTP/1.1 200 "]
)
async def trickle(request: pytest.FixtureRequest) -> AsyncIterator[Trickle]:
    trickle = Trickle(request.param)
    server = await asyncio.start_server(trickle.answer, "127.0.0.1", 0)
    trickle.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield trickle
    server.close()


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "trickle" in request.fixturenames:  # the timeout for each piece stays at 5 s
        monkeypatch.setattr(exchange, "TIMEOUTS", 0.06)
        monkeypatch.setattr(exchange, "TOKEN_TIMEOUTS", 0.06)


async def test_a_firecrest_that_trickles(connection: Connection, trickle: Trickle) -> None:
    async with FirecRESTClient(dataclasses.replace(connection, url=trickle.url), attempts=1) as client:
        with pytest.raises(errors.RequestTimedOut, match=r"the answer of 127\.0\.0\.1:\d+ did not come to an end"):
            await client.system().get_job("7")
        async with asyncio.timeout(60):
            await trickle.left.wait()
        with pytest.raises(errors.SubmissionUnknown):
            await client.system().submit_job(JOB)


async def test_a_token_endpoint_that_trickles(connection: Connection, trickle: Trickle, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_json({"jobs": []})
    async with FirecRESTClient(dataclasses.replace(connection, token_url=trickle.url), attempts=1) as client:
        with pytest.raises(errors.RequestTimedOut, match="Token for the client 'me'.*did not come to an end"):
            await client.system().get_job("7")
        async with asyncio.timeout(60):
            await trickle.left.wait()
        with pytest.raises(errors.RequestTimedOut) as raised:  # no SubmissionUnknown: nothing was submitted
            await client.system().submit_job(JOB)
        assert raised.value.not_processed
        client.use_credentials(connection)  # the lock is free
        assert await client.system().get_job("7") == []


def packed(body: bytes) -> Response:
    """Return an answer whose body is decoded by the client."""
    return Response(body, headers={"Content-Encoding": "gzip"}, content_type="application/json")


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A quarter of a megabyte that becomes 256."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return b"".join([deflate.compress(b" " * MIB) for _ in range(256)] + [deflate.flush()])


async def test_a_bomb_fills_no_memory(client: FirecRESTClient, httpserver: HTTPServer, bomb: bytes) -> None:
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_response(packed(bomb))
    client.trust_url()
    tracemalloc.start()
    try:
        with pytest.raises(errors.AnswerTooLarge, match="more than 33,554,432 bytes") as raised:
            await client.system().get_job("7")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * MIB
    assert raised.value.retryable
    assert not raised.value.user_error


async def test_a_bomb_as_an_error(client: FirecRESTClient, httpserver: HTTPServer, bomb: bytes) -> None:
    response = packed(bomb)
    response.status_code = 404
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_response(response)
    with pytest.raises(errors.AnswerTooLarge):
        await client.system().get_job("7")


async def test_a_bomb_of_a_token_endpoint(connection: Connection, httpserver: HTTPServer, bomb: bytes) -> None:
    httpserver.expect_request("/bomb").respond_with_response(packed(bomb))
    bombed = dataclasses.replace(connection, token_url=httpserver.url_for("/bomb"))
    async with FirecRESTClient(bombed) as client:
        with pytest.raises(errors.AnswerTooLarge, match="more than 1,048,576 bytes"):
            await client.list_systems()


async def test_a_body_without_end(client: FirecRESTClient, httpserver: HTTPServer, monkeypatch: Any) -> None:
    monkeypatch.setattr(exchange, "LARGEST_ANSWER", 1000)
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_data(" " * 1001)
    httpserver.expect_request("/compute/rig/jobs/8").respond_with_data('{"jobs": []}' + " " * 988)
    with pytest.raises(errors.AnswerTooLarge):
        await client.system().get_job("7")
    assert await client.system().get_job("8") == []


async def test_a_direct_download_has_its_own_limit(
    client: FirecRESTClient, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "LARGEST_ANSWER", 10)
    httpserver.expect_request("/filesystem/rig/ops/download").respond_with_data(b"x" * 2000)
    assert await client.system().download_small("/f", most=2000) == b"x" * 2000
    with pytest.raises(errors.FileTooLarge, match="more than 1,999 bytes"):
        await client.system().download_small("/f", most=1999)


async def test_direct_content_has_time_by_its_size() -> None:
    assert exchange.ExchangeLimits.for_content(30).seconds == 300
    assert exchange.ExchangeLimits.for_content(30, sent=5 * MIB).seconds == 620
    assert exchange.ExchangeLimits.for_content(30, received=5 * MIB).seconds == 620


async def test_gzip_is_read(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    rows = json.dumps({"jobs": [{"jobId": number, "name": "x" * 100} for number in range(3000)]}).encode()

    def answer(request: Request) -> Response:
        assert request.headers["Accept-Encoding"] == "gzip"
        return packed(gzip.compress(rows))

    httpserver.expect_request("/compute/rig/jobs").respond_with_handler(answer)
    assert len(await client.system().get_jobs()) == 3000


@pytest.mark.parametrize(("encoding", "body"), [("br", b"x"), ("gzip", b"no gzip"), ("gzip, gzip", b"x")])
async def test_what_cannot_be_decoded(
    client: FirecRESTClient, httpserver: HTTPServer, encoding: str, body: bytes
) -> None:
    response = Response(body, headers={"Content-Encoding": encoding})
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_response(response)
    with pytest.raises(errors.ServerUnreachable):
        await client.system().get_job("7")


@pytest.mark.parametrize("body", ["[" * 100_000, '{"jobs": ' + "9" * 5000 + "}", '{"a":' * 100_000])
@pytest.mark.parametrize("status", [200, 500])
async def test_json_that_python_does_not_read(
    client: FirecRESTClient, httpserver: HTTPServer, body: str, status: int
) -> None:
    client.trust_url()
    for path in ("/compute/rig/jobs/7", "/filesystem/rig/ops/ls", "/filesystem/rig/ops/stat"):
        httpserver.expect_request(path).respond_with_data(body, status=status, content_type="application/json")
    questions: list[Callable[[], Any]] = [
        lambda: client.system().get_job("7"),
        lambda: client.system().list_files("/"),
        lambda: client.system().stat("/"),
    ]
    for question in questions:
        with pytest.raises(errors.ServerFault):
            await question()


async def test_a_time_limit_leaves_other_timeouts_alone() -> None:
    with pytest.raises(TimeoutError):
        async with exchange.time_limit(60):
            raise TimeoutError("of the disk")
    with pytest.raises(httpx.ReadTimeout):
        async with exchange.time_limit(0.0):
            await asyncio.sleep(60)
