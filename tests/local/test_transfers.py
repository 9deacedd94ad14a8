"""The staging store, and the jobs that move files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
import pytest

from firecrest_local import LocalFirecREST, Settings
from firecrest_local.files.staging_expiry import GRACE

PART = 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    root = tmp_path_factory.mktemp("transfers") / "cluster"
    # One core: transfer jobs have cores of their own, so a full node doesn't delay them.
    settings = Settings(root=root, cores=1, accounting_lag=0.0, kill_wait=0.3, max_part_size=PART)
    with LocalFirecREST(settings) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: LocalFirecREST, connect: Any) -> Any:
    return connect(server)


def begin(api: Any, path: object, size: int) -> tuple[str, dict[str, Any]]:
    directives = {"transferMethod": "s3", "fileSize": size}
    answer = api.http.post(f"{api.transfer_url}/upload", json={"path": str(path), "transferDirectives": directives})
    assert answer.status_code == 201, answer.text
    return answer.json()["transferJob"]["jobId"], answer.json()["transferDirectives"]


def put(urls: list[str], parts: list[bytes]) -> list[str]:
    return [
        httpx.put(url, content=part).raise_for_status().headers["ETag"] for url, part in zip(urls, parts, strict=True)
    ]


def completion(etags: list[str]) -> str:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
    )
    return f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{parts}</CompleteMultipartUpload>'


def test_upload_in_parts(server: LocalFirecREST, api: Any) -> None:
    blocker = api.submit("#!/bin/sh\nsleep 60\n", server.home)
    parts = [b"a" * PART, b"b" * PART, b"c"]
    job_id, directives = begin(api, server.home / "up.bin", 2 * PART + 1)
    assert len(directives["partsUploadUrls"]) == 3
    assert directives["maxPartSize"] == PART
    etags = put(directives["partsUploadUrls"], parts)
    assert not (server.home / "up.bin").exists()
    answer = httpx.post(directives["completeUploadUrl"], content=completion(etags))
    assert answer.status_code == 200
    assert "CompleteMultipartUploadResult" in answer.text
    assert api.wait_end(job_id)["status"]["state"] == "COMPLETED"
    assert (server.home / "up.bin").read_bytes() == b"".join(parts)
    assert len(list(server.home.glob(".f7t_file_handling_job_*"))) >= 2
    api.cancel(blocker)


def test_target_name_is_escaped_as_by_the_real_servers_template(server: LocalFirecREST, api: Any) -> None:
    job_id, directives = begin(api, server.home / "a&b.bin", 1)
    etags = put(directives["partsUploadUrls"], [b"x"])
    httpx.post(directives["completeUploadUrl"], content=completion(etags)).raise_for_status()
    api.wait_end(job_id)
    assert (server.home / "a&amp;b.bin").exists()


def test_upload_onto_a_directory_fails(server: LocalFirecREST, api: Any) -> None:
    (server.home / "dir").mkdir()
    job_id, _ = begin(api, server.home / "dir", 1)
    row = api.wait_end(job_id)
    assert (row["status"]["state"], row["status"]["exitCode"]) == ("FAILED", 3)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("no xml", "MalformedXML"),
        (completion([]), "MalformedXML"),
        (completion(['"0000"']), "InvalidPart"),
    ],
)
def test_wrong_completion(body: str, code: str, server: LocalFirecREST, api: Any) -> None:
    job_id, directives = begin(api, server.home / "never.bin", 1)
    put(directives["partsUploadUrls"], [b"x"])
    answer = httpx.post(directives["completeUploadUrl"], content=body)
    assert answer.status_code == 400
    assert f"<Code>{code}</Code>" in answer.text
    api.cancel(job_id)


def test_parts_must_not_be_too_small(server: LocalFirecREST, api: Any) -> None:
    job_id, directives = begin(api, server.home / "small.bin", 2 * PART)
    etags = put(directives["partsUploadUrls"], [b"x", b"y"])
    answer = httpx.post(directives["completeUploadUrl"], content=completion(etags))
    assert "<Code>EntityTooSmall</Code>" in answer.text
    api.cancel(job_id)


def test_upload_without_a_size(server: LocalFirecREST, api: Any) -> None:
    body = {"path": f"{server.home}/x", "transferDirectives": {"transferMethod": "s3"}}
    assert api.http.post(f"{api.transfer_url}/upload", json=body).status_code == 400


def download_url(server: LocalFirecREST, api: Any, content: bytes) -> str:
    (server.home / "down.bin").write_bytes(content)
    body = {"path": f"{server.home}/down.bin", "transferDirectives": {"transferMethod": "s3"}}
    answer = api.http.post(f"{api.transfer_url}/download", json=body).json()
    assert api.wait_end(answer["transferJob"]["jobId"])["status"]["state"] == "COMPLETED"
    return str(answer["transferDirectives"]["downloadUrl"])


def test_download_and_ranges(server: LocalFirecREST, api: Any) -> None:
    url = download_url(server, api, b"0123456789")
    assert httpx.get(url).content == b"0123456789"
    for wanted, content, shown in (
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ):
        answer = httpx.get(url, headers={"Range": wanted})
        assert (answer.status_code, answer.content) == (206, content)
        assert answer.headers["content-range"] == shown
    assert httpx.get(url, headers={"Range": "bytes=10-"}).status_code == 416
    assert httpx.get(url, headers={"Range": "lines=1-2"}).status_code == 200


def test_empty_object(server: LocalFirecREST, api: Any) -> None:
    answer = httpx.get(download_url(server, api, b""))
    assert (answer.status_code, answer.content) == (200, b"")


def test_head_needs_its_own_url(server: LocalFirecREST, api: Any) -> None:
    url = download_url(server, api, b"0123456789")
    assert httpx.head(url).status_code == 403
    key = urlsplit(url).path.removeprefix("/staging/")
    answer = httpx.head(server._running.staging.presign("HEAD", key))
    assert (answer.status_code, answer.headers["content-length"]) == (200, "10")


def test_object_that_does_not_exist_yet(server: LocalFirecREST, api: Any) -> None:
    staging = server._running.staging
    answer = httpx.get(staging.presign("GET", staging.new_object("ada", "soon")))
    assert answer.status_code == 404
    assert "<Code>NoSuchKey</Code>" in answer.text


def altered(url: str, **changes: str) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | changes
    return urlunsplit(parts._replace(query=urlencode(query)))


def test_signatures(server: LocalFirecREST, api: Any) -> None:
    job_id, directives = begin(api, server.home / "signed.bin", 2 * PART)
    url = directives["partsUploadUrls"][0]
    for wrong in (
        altered(url, partNumber="2"),
        altered(url, **{"X-Amz-Signature": "0" * 64}),
        altered(url, **{"X-Amz-Expires": "99999999"}),
        url.replace("signed.bin", "other.bin"),
        url.partition("?")[0],
    ):
        assert httpx.put(wrong, content=b"x").status_code == 403
    assert httpx.get(url).status_code == 403
    assert httpx.put(url, content=b"x").status_code == 200
    api.cancel(job_id)


def test_url_expires(serve: Any, connect: Any) -> None:
    server = serve(url_lifetime=-1)
    _, directives = begin(connect(server), server.home / "late.bin", 1)
    answer = httpx.put(directives["partsUploadUrls"][0], content=b"x")
    assert answer.status_code == 403
    assert "Request has expired" in answer.text


def run(api: Any, operation: str, **body: Any) -> dict[str, Any]:
    answer = api.http.post(f"{api.transfer_url}/{operation}", json=body)
    assert answer.status_code == 201, answer.text
    row: dict[str, Any] = api.wait_end(answer.json()["transferJob"]["jobId"])
    return row


def test_jobs_that_move_files(server: LocalFirecREST, api: Any) -> None:
    place = server.home / "moving"
    (place / "in").mkdir(parents=True)
    (place / "in" / "a.txt").write_text("a")
    ok = "COMPLETED"
    assert run(api, "cp", path=f"{place}/in", targetPath=f"{place}/copy")["status"]["state"] == ok
    assert (place / "copy" / "a.txt").read_text() == "a"
    assert run(api, "mv", path=f"{place}/copy", targetPath=f"{place}/moved")["status"]["state"] == ok
    assert not (place / "copy").exists()
    archive = f"{place}/a.tgz"
    assert run(api, "compress", path=f"{place}/moved", targetPath=archive)["status"]["state"] == ok
    (place / "out").mkdir()
    assert run(api, "extract", path=archive, targetPath=f"{place}/out")["status"]["state"] == ok
    assert (place / "out" / "moved" / "a.txt").read_text() == "a"
    answer = api.http.delete(f"{api.transfer_url}/rm", params={"path": f"{place}/out"})
    assert answer.status_code == 200
    assert api.wait_end(answer.json()["transferJob"]["jobId"])["status"]["state"] == ok
    assert not (place / "out").exists()


def test_move_that_fails_logs_the_reason(server: LocalFirecREST, api: Any) -> None:
    body = {"path": f"{server.home}/none", "targetPath": f"{server.home}/new"}
    job = api.http.post(f"{api.transfer_url}/mv", json=body).json()["transferJob"]
    assert api.wait_end(job["jobId"])["status"]["state"] == "FAILED"
    assert "No such file or directory" in Path(job["logs"]["errorLog"]).read_text()


def test_transfer_partition_is_hidden(server: LocalFirecREST, api: Any) -> None:
    shown = [row["name"] for row in api.http.get("/status/local/partitions").json()["partitions"]]
    assert shown == ["normal", "debug"]
    every = api.http.get("/status/local/partitions", params={"show_hidden": True}).json()["partitions"]
    assert [row["name"] for row in every] == ["normal", "debug", "xfer"]


def staged(server: LocalFirecREST) -> list[Path]:
    """Return the directories of all objects and unfinished uploads."""
    directory = server.home.parent.parent / "state" / "staging"
    return [*directory.glob("objects/*/*"), *directory.glob("uploads/*")]


def test_an_upload_leaves_nothing_in_the_store(serve: Any, connect: Any) -> None:
    server = serve()
    api = connect(server)
    job_id, directives = begin(api, server.home / "up.bin", 1)
    assert staged(server)
    etags = put(directives["partsUploadUrls"], [b"x"])
    httpx.post(directives["completeUploadUrl"], content=completion(etags)).raise_for_status()
    assert api.wait_end(job_id)["status"]["state"] == "COMPLETED"
    assert (server.home / "up.bin").read_bytes() == b"x"
    assert staged(server) == []


@pytest.mark.parametrize("ranges", [[None], ["bytes=0-4", "bytes=5-9"], ["bytes=3-", "bytes=0-4"]])
def test_a_download_is_removed_some_time_after_all_of_it_was_served(
    serve: Any, connect: Any, until: Any, ranges: list[str | None]
) -> None:
    server = serve()
    url = download_url(server, connect(server), b"0123456789")
    expiry, soon = server._running.staging.expiry, time.time() + 60
    for wanted in ranges:
        assert "served" not in [path.name for directory in staged(server) for path in directory.iterdir()]
        httpx.get(url, headers={"Range": wanted} if wanted else {}).raise_for_status()
    until(lambda: list(staged(server)[0].glob("served")), "the download was served")
    expiry.sweep(soon)
    assert httpx.get(url).status_code == 200
    expiry.sweep(soon + GRACE)
    assert httpx.get(url).status_code == 404
    assert staged(server) == []


def test_what_nobody_takes_is_removed_when_its_url_has_expired(serve: Any, connect: Any) -> None:
    server = serve(url_lifetime=3600)
    api = connect(server)
    download_url(server, api, b"x")
    job_id, _ = begin(api, server.home / "never.bin", 1)
    api.cancel(job_id)
    server._running.staging.expiry.sweep(time.time() + 3500)
    assert len(staged(server)) == 3
    server._running.staging.expiry.sweep(time.time() + 3700)
    assert staged(server) == []


def test_a_part_for_an_upload_that_is_complete(server: LocalFirecREST, api: Any) -> None:
    _, directives = begin(api, server.home / "twice.bin", 1)
    etags = put(directives["partsUploadUrls"], [b"x"])
    httpx.post(directives["completeUploadUrl"], content=completion(etags)).raise_for_status()
    for answer in (
        httpx.post(directives["completeUploadUrl"], content=completion(etags)),
        httpx.put(directives["partsUploadUrls"][0], content=b"x"),
    ):
        assert (answer.status_code, "<Code>NoSuchUpload</Code>" in answer.text) == (404, True)
