"""A client's own certificate (mutual TLS), before a server that asks for one."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from firecrest_core import errors
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.transfer.store import Store


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mine") / "me.pem"
    authority.issue_cert("me@example.org").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def asking(request: pytest.FixtureRequest, authority: trustme.CA) -> Iterator[HTTPServer]:
    """A server that talks to clients with a certificate alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = request.param
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("localhost").configure_cert(context)
    with HTTPServer(host="localhost", ssl_context=context) as server:
        server.expect_request("/token").respond_with_json({"access_token": "good", "expires_in": 300})
        server.expect_request("/status/systems").respond_with_json({"systems": []})
        server.expect_request("/part").respond_with_data("content")
        yield server


@pytest.fixture
def secured(asking: HTTPServer, authority: trustme.CA, tmp_path: Path) -> dict[str, Any]:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    url = asking.url_for("/")
    return {
        "url": url,
        "token_url": f"{url}token",
        "client_id": "me",
        "client_secret": "s",
        "verify": str(bundle),
        "timeout": 10,
    }


@pytest.mark.parametrize("checked", [True, False])
async def test_a_certificate_is_shown_to_every_server_that_asks(
    secured: dict[str, Any], certificate: Path, checked: bool, asking: HTTPServer
) -> None:
    connection = Connection(**secured | ({} if checked else {"verify": False}), client_cert=str(certificate))
    async with FirecRESTClient(connection) as client:
        assert await client.list_systems() == []
    async with Store(connection) as store:
        answer = await store._ask("GET", SecretStr(asking.url_for("/part")))
    assert answer.text == "content"


async def test_a_server_that_asks_in_vain(secured: dict[str, Any]) -> None:
    async with FirecRESTClient(Connection(**secured)) as client:
        with pytest.raises(errors.TLSFailed, match="client_cert"):
            await client.list_systems()


@pytest.mark.parametrize("kind", ["missing", "empty", "without key", "encrypted", "directory"])
async def test_what_is_no_certificate(certificate: Path, tmp_path: Path, kind: str, connection: Connection) -> None:
    path = tmp_path / "broken.pem"
    match kind:
        case "empty":
            path.touch()
        case "without key":
            text = certificate.read_text()
            path.write_text(text[text.index("-----BEGIN CERTIFICATE") :])
        case "encrypted":
            key = load_pem_private_key(certificate.read_bytes(), None)
            locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2"))
            text = certificate.read_bytes()
            path.write_bytes(locked + text[text.index(b"-----BEGIN CERTIFICATE") :])
        case "directory":
            path.mkdir()
    fields = {"url": connection.url, "token_url": connection.token_url, "client_id": "me", "client_secret": "s"}
    async with FirecRESTClient(Connection(**fields, client_cert=str(path))) as client:
        with pytest.raises(errors.ConfigurationError, match=r"^client_cert: .*broken\.pem cannot be read"):
            await client.list_systems()
