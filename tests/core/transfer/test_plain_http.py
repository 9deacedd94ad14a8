"""A staging store that a site uses over plain http: its URLs are secrets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.api.http import HTTPSession
from firecrest_core.connection import Connection
from firecrest_core.errors import ConfigurationError
from firecrest_core.transfer import PendingTransfer, begin_download, begin_upload
from firecrest_core.transfer.store import Store

SIZE = 65 * 1024
PLAIN = "http://store.example.org/bucket/key?X-Amz-Signature=s3cret"


@pytest.fixture(autouse=True)
def _plain_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's URLs lead over plain http to another machine."""
    send = HTTPSession.send

    async def with_plain_urls(session: HTTPSession, request: httpx.Request, **options: Any) -> httpx.Response:
        answer = await send(session, request, **options)
        if not request.url.path.endswith(("transfer/upload", "transfer/download")):
            return answer
        body = answer.json()
        directives = body["transferDirectives"]
        for name in directives.keys() & {"downloadUrl", "completeUploadUrl"}:
            directives[name] = PLAIN
        return httpx.Response(answer.status_code, content=json.dumps(body), request=request)

    monkeypatch.setattr(HTTPSession, "send", with_plain_urls)


async def down(system: System, there: Path, here: Path) -> Any:
    (there / "f").write_bytes(bytes(SIZE))
    return await begin_download(system, str(there / "f"), here)


async def up(system: System, there: Path, here: Path) -> Any:
    (here / "f").write_bytes(bytes(SIZE))
    return await begin_upload(system, here / "f", f"{there}/")


@pytest.mark.parametrize("transfer", [up, down])
async def test_it_has_to_be_allowed(
    system: System, there: Path, tmp_path: Path, mocker: Any, transfer: Callable[..., Any]
) -> None:
    cancelled = mocker.spy(system, "cancel_job")
    with pytest.raises(ConfigurationError, match=r"plain http.*allow_http.*Its transfer job \d+ on .* was cancelled"):
        await transfer(system, there, tmp_path)
    assert cancelled.await_count == 1


async def test_it_can_be_allowed(connection: Connection, there: Path, tmp_path: Path) -> None:
    async with FirecRESTClient(replace(connection, allow_http=True)) as client:
        system = client.system()
        pending = await down(system, there, tmp_path)
        assert isinstance(pending, PendingTransfer)
        await system.cancel_job(pending.job.job_id)


@pytest.mark.parametrize("status", [301, 307])
async def test_no_redirect_of_the_store_is_followed(fake_store: Any, staging: Store, status: int) -> None:
    fake_store.answer = lambda headers: (f"{status} Moved", {"Location": PLAIN}, b"")
    with pytest.raises(Exception, match=f"HTTP {status}") as caught:
        await staging._ask("GET", fake_store.url(), headers={"Range": "bytes=0-1"})
    assert "s3cret" not in str(caught.value)
