"""Requests that no client should send: each is refused with a 4xx in FirecREST's form, and the next one is answered."""

from __future__ import annotations

import json
import logging
import os
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from firecrest_local import LocalFirecREST, Settings

JSON = {"Content-Type": "application/json"}
OPS, TRANSFER, JOBS = "/filesystem/local/ops", "/filesystem/local/transfer", "/compute/local/jobs"
SCRIPT = "#!/bin/sh\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    root = tmp_path_factory.mktemp("broken") / "cluster"
    with LocalFirecREST(Settings(root=root, cores=1, accounting_lag=0.0, kill_wait=0.3)) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: LocalFirecREST, connect: Any) -> Any:
    return connect(server)


@pytest.fixture
def refused(server: LocalFirecREST, api: Any, caplog: pytest.LogCaptureFixture) -> Any:
    def send(method: str, path: str, **request: Any) -> dict[str, Any]:
        answer = api.http.request(method, path, **request)
        assert 400 <= answer.status_code < 500, answer.text
        assert set(answer.json()) == {"errorType", "message", "causedBy", "data", "user"}
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
        assert api.http.get("/status/systems").status_code == 200
        return dict(answer.json())

    return send


@pytest.mark.parametrize("path", ["nul\0byte", "surrogate\ud800"])
@pytest.mark.parametrize(
    ("method", "url", "field", "others"),
    [
        ("POST", f"{OPS}/mkdir", "sourcePath", {}),
        ("PUT", f"{OPS}/chmod", "sourcePath", {"mode": "644"}),
        ("POST", f"{OPS}/symlink", "linkPath", {"sourcePath": "{home}"}),
        ("POST", f"{OPS}/compress", "targetPath", {"sourcePath": "{home}"}),
        ("POST", f"{TRANSFER}/cp", "targetPath", {"sourcePath": "{home}"}),
        ("POST", f"{TRANSFER}/upload", "sourcePath", {"transferDirectives": {"transferMethod": "s3", "fileSize": 1}}),
    ],
)
def test_a_path_that_cannot_be(
    method: str, url: str, field: str, others: dict[str, Any], path: str, server: LocalFirecREST, refused: Any
) -> None:
    # httpx writes no surrogate itself.
    body = {name: str(server.home) if value == "{home}" else value for name, value in others.items()}
    text = json.dumps({**body, field: f"{server.home}/{path}"})
    refused(method, url, content=text.encode(), headers=JSON)


@pytest.mark.parametrize("operation", ["ls", "stat", "head", "tail", "view", "download", "checksum", "file"])
def test_a_null_byte_in_the_path_to_read(operation: str, server: LocalFirecREST, refused: Any) -> None:
    refused("GET", f"{OPS}/{operation}", params={"path": f"{server.home}/\0"})


@pytest.mark.parametrize(
    "fields",
    [
        {"env": ["A=b"]},
        {"env": {"A": "\0"}},
        {"env": {"\0": "b"}},
        {"name": "\0"},
        {"standardOutput": "\0"},
        {"scriptPath": "\0"},
        {"script": f"{SCRIPT}\0"},
    ],
    ids=str,
)
def test_a_job_that_cannot_be(fields: dict[str, Any], server: LocalFirecREST, refused: Any) -> None:
    job = {"workingDirectory": str(server.home), "script": SCRIPT, **fields}
    assert refused("POST", JOBS, json={"job": job})["errorType"] == "validation"


@pytest.mark.parametrize("options", ["--nodes=" + "9" * 5000, "--gpus=²", "--mem=" + "9" * 400, "--array=0-3%²"])
def test_options_that_no_scheduler_can_read(options: str, server: LocalFirecREST, api: Any) -> None:
    """The real server answers 500 with the words of sbatch."""
    answer = api.try_submit(f"{SCRIPT}#SBATCH {options[:4999]}\n", server.home)
    assert (answer.status_code, answer.json()["message"].partition(" exit_status")[0]) == (
        500,
        "Unexpected Slurm command response.",
    )
    assert api.wait_end(api.submit(SCRIPT, server.home))["status"]["state"] == "COMPLETED"


def test_a_width_in_a_file_name_is_limited(server: LocalFirecREST, api: Any) -> None:
    job_id = api.submit(SCRIPT, server.home, standardOutput="%9999999999j")
    (metadata,) = api.http.get(f"{JOBS}/{job_id}/metadata").json()["jobs"]
    assert metadata["standardOutput"] == f"{server.home}/{job_id:0>10}"


def test_a_job_id_of_many_digits(refused: Any) -> None:
    refused("GET", f"{JOBS}/{'9' * 5000}")
    refused("GET", f"{JOBS}/{'9' * 5000}/metadata")


@pytest.mark.parametrize("size", [None, -1, 10**400])
def test_an_upload_of_no_size(size: int | None, server: LocalFirecREST, refused: Any) -> None:
    directives = {"transferMethod": "s3", "fileSize": size}
    refused("POST", f"{TRANSFER}/upload", json={"path": f"{server.home}/f", "transferDirectives": directives})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\nx\r\n--b--\r\n',
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="\0"\r\n\r\nx\r\n--b--\r\n',
        ),
    ],
)
@pytest.mark.parametrize("given", ["path", "no-path"])
def test_a_form_without_a_file(kind: str, body: bytes, given: str, server: LocalFirecREST, refused: Any) -> None:
    params = {"path": str(server.home)} if given == "path" else {}
    refused("POST", f"{OPS}/upload", params=params, content=body, headers={"Content-Type": kind})


@pytest.mark.parametrize("url", [f"{OPS}/mkdir", JOBS, f"{TRANSFER}/cp"])
def test_json_that_is_too_deep(url: str, refused: Any) -> None:
    refused("POST", url, content=b"[" * 100_000, headers=JSON)


def test_directories_that_are_too_deep(server: LocalFirecREST, refused: Any) -> None:
    refused("POST", f"{OPS}/mkdir", json={"path": f"{server.home}{'/a' * 1800}", "parent": True})


@pytest.mark.parametrize(
    "parts",
    [
        [b"[" * 20_000, b"{}"],
        [b'{"kid": "firecrest-local"}', b'{"exp": 1' + b"0" * 400 + b"}"],
        [b'{"kid": "firecrest-local"}', b'{"exp": NaN}'],
        [b"\xff", b"\xff"],
    ],
    ids=["deep", "huge", "nan", "bytes"],
)
def test_an_odd_token(parts: list[bytes], refused: Any) -> None:
    token = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in [*parts, b"x"])
    refused("GET", "/status/systems", headers={"Authorization": b"Bearer " + token})


def test_a_pattern_that_is_no_regular_expression(server: LocalFirecREST, refused: Any) -> None:
    body = {"path": str(server.home), "targetPath": f"{server.home}/a.tgz", "matchPattern": "("}
    refused("POST", f"{OPS}/compress", json=body)


def test_a_name_that_is_no_text(server: LocalFirecREST, api: Any) -> None:
    place = server.home / "names"
    place.mkdir()
    (place / os.fsdecode(b"\xff")).symlink_to(os.fsdecode(b"\xfe"))
    (row,) = api.http.get(f"{OPS}/ls", params={"path": str(place)}).json()["output"]
    assert (row["name"], row["linkTarget"]) == ("\ufffd", "\ufffd")


@pytest.mark.parametrize("length", [20, 5000])
def test_an_archive_that_was_cut_short(length: int, server: LocalFirecREST, api: Any) -> None:
    (server.home / "random").write_bytes(os.urandom(20_000))
    archive = server.home / "a.tgz"
    paths = {"path": f"{server.home}/random", "targetPath": str(archive)}
    assert api.http.post(f"{OPS}/compress", json=paths).status_code == 204
    archive.write_bytes(archive.read_bytes()[:length])
    answer = api.http.post(f"{OPS}/extract", json={"path": str(archive), "targetPath": str(server.home)})
    assert "tar: This does not look like a tar archive" in answer.json()["message"]
