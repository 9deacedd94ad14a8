"""A direct transfer that is refused as too large goes by the staging store, and an unreadable ticket ends its job."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from firecrest_core import FirecRESTClient, errors
from firecrest_core.transfer import PendingTransfer, begin_download, begin_upload, download, upload
from firecrest_core.transfer.partial import hash_file

PAGE = "<html><head><title>413 Request Entity Too Large</title></head></html>"
BUFFER = {"errorType": "error", "message": "Command output exceeded buffer limit.", "causedBy": None}
TOO_LARGE = {
    "page": (413, PAGE),
    "silence": (413, ""),
    "site": (413, json.dumps({"errorType": "error", "message": "File to upload is too large."})),
    "buffer": (500, json.dumps(BUFFER)),
    "new buffer": (413, json.dumps(BUFFER)),
}


class Gateway(httpx.AsyncBaseTransport):
    """Stands between the client and the server, and changes some of the answers."""

    def __init__(self, behind: httpx.AsyncBaseTransport) -> None:
        self._behind = behind
        self.refused: list[str] = []
        self.answers: dict[str, tuple[int, str]] = {}
        self.change: dict[str, Callable[[dict[str, Any]], Any]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        operation = request.url.path.partition("/filesystem/")[2].partition("/")[2]
        if operation in self.answers:
            await request.aread()
            self.refused.append(operation)
            status, body = self.answers[operation]
            return httpx.Response(status, text=body)
        response = await self._behind.handle_async_request(request)
        if operation in self.change:
            await response.aread()
            return httpx.Response(response.status_code, json=self.change[operation](response.json()))
        return response


@pytest.fixture
def gateway(client: FirecRESTClient) -> Gateway:
    session = client.requests.session
    session._transport = Gateway(session._transport)
    return session._transport


def file(path: Path, size: int = 1000) -> Path:
    path.write_bytes(os.urandom(size))
    return path


@pytest.mark.parametrize("said", ["page", "silence", "site"])
@pytest.mark.parametrize(("name", "size"), [("f", 1000), ("a b&c", 1000), ("empty", 0)])
async def test_upload(system, gateway, there, tmp_path, said: str, name: str, size: int) -> None:
    gateway.answers["ops/upload"] = TOO_LARGE[said]
    source = file(tmp_path / name, size)
    done = await upload(system, source, f"{there}/")
    assert (done.remote, done.size, done.sha256) == (f"{there}/{name}", size, hash_file(source))
    assert [entry.name for entry in there.iterdir()] == [name]
    assert (there / name).read_bytes() == source.read_bytes()
    assert gateway.refused == ["ops/upload"]


async def test_upload_of_a_directory(system, gateway, there, tmp_path) -> None:
    gateway.answers["ops/upload"] = TOO_LARGE["page"]
    (tmp_path / "tree").mkdir()
    source = file(tmp_path / "tree" / "f")
    pending = await begin_upload(system, tmp_path / "tree", f"{there}/")
    assert isinstance(pending, PendingTransfer)
    await upload(system, tmp_path / "tree", f"{there}/")
    assert (there / "tree" / "f").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("said", TOO_LARGE)
@pytest.mark.parametrize(("name", "size"), [("f", 1000), ("a b&c", 1000), ("empty", 0)])
async def test_download(system, gateway, there, tmp_path, said: str, name: str, size: int) -> None:
    gateway.answers["ops/download"] = TOO_LARGE[said]
    source = file(there / name, size)
    done = await download(system, str(source), f"{tmp_path}/")
    assert (done.size, done.sha256) == (size, hash_file(source))
    assert (tmp_path / name).read_bytes() == source.read_bytes()
    assert [entry.name for entry in there.iterdir()] == [name]
    assert set(gateway.refused) == {"ops/download"}


async def test_download_through_a_link(system, gateway, there, tmp_path) -> None:
    gateway.answers["ops/download"] = TOO_LARGE["buffer"]
    source = file(there / "f")
    (there / "link").symlink_to(source)
    await download(system, f"{there}/link", f"{tmp_path}/")
    assert (tmp_path / "link").read_bytes() == source.read_bytes()


async def test_download_of_a_directory(system, gateway, there, tmp_path) -> None:
    gateway.answers["ops/download"] = TOO_LARGE["page"]
    (there / "tree").mkdir()
    source = file(there / "tree" / "f")
    await download(system, f"{there}/tree", f"{tmp_path}/")
    assert (tmp_path / "tree" / "f").read_bytes() == source.read_bytes()
    assert [entry.name for entry in there.iterdir()] == ["tree"]


async def test_a_file_that_has_grown_past_the_limit(system, there, tmp_path, mocker) -> None:
    """More content than the site allows is not read on."""
    source = file(there / "f")
    info = (await system.info()).model_copy(update={"max_ops_file_size": 2000})
    mocker.patch.object(system, "info", return_value=info)
    stat = system.stat

    async def grown(path, **options):
        found = await stat(path, **options)
        file(source, 5000)
        return found

    mocker.patch.object(system, "stat", grown)
    with pytest.raises(errors.TransferFailed, match="staging store has 5,000 bytes of a file that had 1,000"):
        await download(system, str(source), f"{tmp_path}/")


@pytest.mark.parametrize("said", TOO_LARGE)
async def test_no_staging_store(system, gateway, there, tmp_path, mocker, said: str) -> None:
    info = (await system.info()).model_copy(update={"transfer_method": None})
    mocker.patch.object(system, "info", return_value=info)
    words = r"has 1,000 bytes, and .* takes [\d,]+ directly, but a gateway or the server refused.*no staging store"
    gateway.answers["ops/download"] = gateway.answers["ops/upload"] = TOO_LARGE[said]
    with pytest.raises(errors.FileTooLarge, match=words):
        await download(system, str(file(there / "f")), f"{tmp_path}/")
    if TOO_LARGE[said][0] == 413:
        with pytest.raises(errors.FileTooLarge, match=words):
            await upload(system, file(tmp_path / "g"), f"{there}/")
    assert [entry.name for entry in there.iterdir()] == ["f"]


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: answer | {"transferDirectives": None},
        lambda answer: answer | {"transferDirectives": answer["transferDirectives"] | {"maxPartSize": 0}},
        lambda answer: {"transferJob": answer["transferJob"]},
        lambda answer: answer | {"transferDirectives": {"transferMethod": "s3", "partsUploadUrls": "http://x/?s3cret"}},
    ],
)
@pytest.mark.parametrize("upwards", [True, False])
async def test_an_unreadable_ticket(system, gateway, there, tmp_path, mocker, change, upwards: bool) -> None:
    cancelled = mocker.spy(system, "cancel_job")
    size = 65 * 1024
    if upwards:
        gateway.change["transfer/upload"] = change
        begun = begin_upload(system, file(tmp_path / "f", size), f"{there}/")
    else:
        gateway.change["transfer/download"] = lambda answer: answer | {"transferDirectives": {"downloadUrl": None}}
        begun = begin_download(system, str(file(there / "f", size)), tmp_path)
    with pytest.raises(
        errors.TransferFailed, match=r"not the form.*Its transfer job \d+ on \w+ was cancelled"
    ) as raised:
        await begun
    assert "s3cret" not in str(raised.value)
    (job,) = cancelled.await_args.args
    assert f"job {job} on" in str(raised.value)


async def test_a_ticket_without_a_job(system, gateway, there, tmp_path) -> None:
    gateway.change["transfer/upload"] = lambda answer: {"transferJob": {"jobId": None, "system": "x"}}
    with pytest.raises(errors.ServerFault, match=r"transferJob\.jobId"):
        await begin_upload(system, file(tmp_path / "f", 65 * 1024), f"{there}/")
