"""Requests over a proxy, which is a real one."""

from __future__ import annotations

import base64
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from firecrest_core import errors
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.transfer.store import Store


class Proxy(ThreadingHTTPServer):
    """A proxy that notes what it is asked for, and may want a password.

    :param password: what comes after the user name ``me``
    """

    daemon_threads = True

    def __init__(self, password: str = "") -> None:
        self.asked: list[str] = []
        self.login = f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}" if password else ""
        super().__init__(("127.0.0.1", 0), _Handler)

    def url(self, login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def log_message(self, *words: Any) -> None:
        pass

    def _may_pass(self) -> bool:
        self.server.asked.append(f"{self.command} {self.path}")
        if self.server.login in ("", self.headers.get("Proxy-Authorization")):
            return True
        self.send_response(407)
        self.send_header("Proxy-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def do_CONNECT(self) -> None:
        if not self._may_pass():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as server:
            self.send_response(200)
            self.end_headers()
            ends = {server: self.connection, self.connection: server}
            while True:
                for one in select.select(list(ends), [], [], 10)[0]:
                    piece = one.recv(65536)
                    if not piece:
                        return
                    ends[one].sendall(piece)

    def _forward(self) -> None:
        if not self._may_pass():
            return
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if not name.startswith("Proxy-")}
        answer = httpx.request(self.command, self.path, content=content, headers=headers, trust_env=False)
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_PUT = _forward


@pytest.fixture
def proxies() -> Iterator[dict[str, Proxy]]:
    proxies = {"open": Proxy(), "closed": Proxy("hunter2")}
    for one in proxies.values():
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
    yield proxies
    for one in proxies.values():
        one.shutdown()
        one.server_close()


def over(connection: Connection, proxy: str) -> Connection:
    return replace(connection, proxy=proxy)


@pytest.fixture
def systems(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/status/systems").respond_with_json({"systems": []})
    httpserver.expect_request("/part").respond_with_data("content")


@pytest.mark.usefixtures("systems")
async def test_all_requests_go_over_the_proxy(
    connection: Connection, proxies: dict[str, Proxy], httpserver: HTTPServer
) -> None:
    connection = over(connection, proxies["closed"].url("me:hunter2@"))
    async with FirecRESTClient(connection) as client:
        assert await client.list_systems() == []
    async with Store(connection) as store:
        await store._ask("GET", SecretStr(httpserver.url_for("/part")))
    assert [urlsplit(one.split()[1]).path for one in proxies["closed"].asked] == ["/token", "/status/systems", "/part"]


async def test_https_goes_through_a_tunnel(connection: Connection, proxies: dict[str, Proxy], tmp_path: Any) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with HTTPServer(host="localhost", ssl_context=context) as secure:
        secure.expect_request("/status/systems").respond_with_json({"systems": []})
        connection = replace(
            over(connection, proxies["open"].url()), url=secure.url_for("/"), verify=str(tmp_path / "ca.pem")
        )
        async with FirecRESTClient(connection) as client:
            assert await client.list_systems() == []
        assert f"CONNECT localhost:{secure.port}" in proxies["open"].asked


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("login", ["", "me:hunter3@"])
async def test_a_proxy_that_wants_another_login(
    connection: Connection, proxies: dict[str, Proxy], scheme: str, login: str
) -> None:
    url = f"{scheme}://localhost:9"
    connection = replace(over(connection, proxies["closed"].url(login)), url=url, auth="api_key")
    async with FirecRESTClient(connection) as client:
        with pytest.raises(errors.AuthenticationFailed, match=r"user name and a password \(407\)") as caught:
            await client.list_systems()
    assert "hunter" not in str(caught.value)


async def test_a_proxy_that_does_not_answer(connection: Connection, proxies: dict[str, Proxy]) -> None:
    proxies["open"].server_close()
    port = proxies["open"].server_port
    async with FirecRESTClient(over(connection, proxies["open"].url("me:hunter2@"))) as client:
        with pytest.raises(errors.ServerUnreachable, match=rf"over the proxy 127\.0\.0\.1:{port}\)") as caught:
            await client.list_systems()
    assert "hunter2" not in str(caught.value)


async def test_a_proxy_that_does_not_exist(connection: Connection) -> None:
    async with FirecRESTClient(over(connection, "http://no-such-proxy.invalid:3128")) as client:
        with pytest.raises(errors.HostNotFound, match=r"over the proxy no-such-proxy\.invalid:3128"):
            await client.list_systems()


async def test_the_host_of_a_proxy_that_cannot_be_one(connection: Connection) -> None:
    async with FirecRESTClient(over(connection, "http://me:hunter2@xn--a.example:3128")) as client:
        with pytest.raises(errors.FirecRESTError) as caught:
            await client.list_systems()
    assert "hunter2" not in str(caught.value)


@pytest.mark.usefixtures("systems")
@pytest.mark.parametrize("spared", [False, True])
async def test_the_proxy_of_the_environment(
    connection: Connection, proxies: dict[str, Proxy], monkeypatch: pytest.MonkeyPatch, spared: bool
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxies["open"].url())
    monkeypatch.setenv("NO_PROXY", "localhost" if spared else "")
    async with FirecRESTClient(connection) as client:
        assert await client.list_systems() == []
    assert bool(proxies["open"].asked) is not spared
