"""What is said where secrets are not protected on their way, and that they go nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from pytest_httpserver import HTTPServer

from firecrest_core.api import tls
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.errors import FirecRESTError

CONNECTION = Connection(
    url="https://api.example.org", token_url="https://auth.example.org/token", client_id="me", client_secret="s"
)


@pytest.fixture(autouse=True)
def _warned_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_warned", set())


async def warnings(caplog: pytest.LogCaptureFixture, *connections: Connection) -> list[str]:
    """Return what clients of these connections warn of when each has opened its session twice."""
    for connection in (*connections, *connections):
        async with FirecRESTClient(connection) as client:
            client.trust_url()  # opens the session
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


async def test_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    here = replace(CONNECTION, url="http://localhost:8000", token_url="http://127.0.0.1/token", allow_http=True)
    assert await warnings(caplog, CONNECTION, here) == []


async def test_unchecked_certificates_once_for_each_connection(caplog: pytest.LogCaptureFixture) -> None:
    unchecked = replace(CONNECTION, verify=False)
    first, second = await warnings(caplog, unchecked, replace(unchecked, url="https://other.example.org"))
    assert "verify=False: the certificate of api.example.org and auth.example.org is not checked" in first
    assert "certificate of other.example.org" in second


async def test_plain_http_has_no_certificate(caplog: pytest.LogCaptureFixture) -> None:
    here = replace(CONNECTION, url="http://localhost:8000", token_url="http://127.0.0.1/token", verify=False)
    assert await warnings(caplog, here) == []


async def test_plain_http_once_for_each_connection(caplog: pytest.LogCaptureFixture) -> None:
    plain = replace(CONNECTION, url="http://api.example.org", allow_http=True)
    [warning] = await warnings(caplog, plain)
    assert "go to api.example.org without encryption" in warning


def test_the_usual_authorities_are_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hundreds of certificates are read in a tenth of a second, and each task and each view of a page has a client."""
    usual = tls.tls_context(CONNECTION)
    assert tls.tls_context(replace(CONNECTION, url="https://other.example.org")) is usual
    bundle = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(bundle)
    assert tls.tls_context(replace(CONNECTION, verify=str(bundle))) is not usual
    assert len(usual.get_ca_certs()) > 1
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert len(tls.tls_context(CONNECTION).get_ca_certs()) == 1


@pytest.fixture
def elsewhere() -> Iterator[HTTPServer]:
    with HTTPServer() as server:
        yield server


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(
    client: FirecRESTClient, httpserver: HTTPServer, elsewhere: HTTPServer, status: int
) -> None:
    httpserver.expect_request("/status/systems").respond_with_data(
        status=status, headers={"Location": elsewhere.url_for("/status/systems")}
    )
    with pytest.raises(FirecRESTError):
        await client.list_systems()
    assert elsewhere.log == []


@pytest.mark.parametrize("status", [302, 307])
async def test_no_redirect_of_a_token_request_is_followed(
    httpserver: HTTPServer, elsewhere: HTTPServer, connection: Connection, status: int
) -> None:
    httpserver.expect_request("/moved").respond_with_data(
        status=status, headers={"Location": elsewhere.url_for("/token")}
    )
    async with FirecRESTClient(replace(connection, token_url=httpserver.url_for("/moved"))) as client:
        with pytest.raises(FirecRESTError):
            await client.list_systems()
    assert elsewhere.log == []
