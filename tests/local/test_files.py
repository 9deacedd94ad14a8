"""Operations on files: parameters, unusual names, limits, and the confinement to the root."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecrest_local import LocalFirecREST, Settings
from firecrest_local.errors import OutputTooLarge
from firecrest_local.files import lines


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    root = tmp_path_factory.mktemp("files") / "cluster"
    settings = Settings(root=root, cores=2, accounting_lag=0.0, kill_wait=0.3, command_timeout=0.3)
    with LocalFirecREST(settings) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: LocalFirecREST, connect: Any) -> Any:
    return connect(server)


@pytest.fixture
def place(server: LocalFirecREST, tmp_path: Path) -> Path:
    """A directory on the cluster for one test."""
    path = server.home / tmp_path.name
    path.mkdir()
    return path


@pytest.fixture
def get(api: Any) -> Any:
    def ask(operation: str, path: object, **params: Any) -> httpx.Response:
        answer: httpx.Response = api.http.get(f"{api.ops_url}/{operation}", params={"path": str(path), **params})
        return answer

    return ask


@pytest.fixture
def send(api: Any) -> Any:
    def ask(method: str, operation: str, path: object, **fields: Any) -> httpx.Response:
        answer: httpx.Response = api.http.request(
            method, f"{api.ops_url}/{operation}", json={"path": str(path), **fields}
        )
        return answer

    return ask


@pytest.mark.parametrize(
    ("operation", "params", "content", "start", "end"),
    [
        ("head", {}, "1\n2\n3\n4\n", 0, 10),
        ("head", {"lines": 1, "skipTrailing": True}, "1\n2\n3\n", 0, -1),
        ("head", {"bytes": 3, "skipTrailing": True}, "1\n2\n3", 0, -3),
        ("tail", {}, "1\n2\n3\n4\n", 10, -1),
        ("tail", {"bytes": 3, "skipHeading": True}, "2\n3\n4\n", 3, -1),
        ("tail", {"lines": 3, "skipHeading": True}, "3\n4\n", 3, -1),
        ("tail", {"bytes": 99}, "1\n2\n3\n4\n", -99, -1),
    ],
)
def test_parts_of_a_file(
    operation: str, params: dict[str, Any], content: str, start: int, end: int, place: Path, get: Any
) -> None:
    (place / "numbers").write_text("1\n2\n3\n4\n")
    output = get(operation, place / "numbers", **params).json()["output"]
    assert (output["content"], output["startPosition"], output["endPosition"]) == (content, start, end)


def test_bytes_and_lines_at_once(place: Path, get: Any) -> None:
    (place / "f").write_text("x")
    assert get("tail", place / "f", bytes=1, lines=1).status_code == 400


def test_view_counts_characters(place: Path, get: Any) -> None:
    (place / "f").write_text("äöü-abc")
    assert get("view", place / "f", offset=0, size=4).json()["output"] == "äöü-"
    assert get("view", place / "f", size=0).status_code == 400
    assert get("view", place / "f", offset=-1).status_code == 400
    assert get("view", place / "f", size=99_999_999).status_code == 400


def test_download_ends_where_the_base64_buffer_does(place: Path, get: Any) -> None:
    (place / "big").write_bytes(b"x" * 3_900_000)
    assert len(get("download", place / "big").content) == 3_900_000
    (place / "big").write_bytes(b"x" * 3_940_000)
    answer = get("download", place / "big")
    assert (answer.status_code, answer.json()["message"]) == (413, "Command output exceeded buffer limit.")


def test_empty_upload_hangs(place: Path, api: Any) -> None:
    answer = api.http.post(f"{api.ops_url}/upload", params={"path": str(place)}, files={"file": ("empty", b"")})
    assert answer.status_code == 408


def test_upload_of_unusual_names(place: Path, api: Any, get: Any) -> None:
    for name in ("a b.txt", "naïve.txt", "a&b.bin"):
        files = {"file": (name, b"content")}
        answer = api.http.post(f"{api.ops_url}/upload", params={"path": str(place)}, files=files)
        assert answer.status_code == 204, answer.text
        assert (place / name).read_bytes() == b"content"
    assert get("checksum", place / "a b.txt").status_code == 500


def test_symlink_is_made_once(place: Path, send: Any, get: Any) -> None:
    first = send("POST", "symlink", place / "job-1", linkPath=str(place / "claim"))
    assert first.json()["output"]["linkTarget"] == str(place / "job-1")
    second = send("POST", "symlink", place / "job-2", linkPath=str(place / "claim"))
    assert second.status_code == 400
    assert second.json()["message"].endswith(f"ln: failed to create symbolic link '{place}/claim': File exists")
    (row,) = get("ls", place).json()["output"]
    assert row["linkTarget"] == str(place / "job-1")


def test_ls(place: Path, get: Any) -> None:
    (place / "sub").mkdir()
    (place / "sub" / "deep").write_text("x")
    (place / ".hidden").write_text("x")
    (place / "link").symlink_to(place / "sub" / "deep")
    assert [row["name"] for row in get("ls", place).json()["output"]] == ["link", "sub"]
    rows = get("ls", place, recursive=True, showHidden=True).json()["output"]
    assert [row["name"] for row in rows] == [".hidden", "link", "sub", "sub/deep"]
    followed = {row["name"]: row for row in get("ls", place, dereference=True).json()["output"]}
    assert followed["link"]["type"] == "-"
    assert get("stat", place / "link", dereference=True).json()["output"]["size"] == 1
    assert [row["name"] for row in get("ls", place / "link").json()["output"]] == [str(place / "link")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"text\n", "ASCII text"),
        ("ä".encode(), "UTF-8 Unicode text"),
        (b"\x00\x01", "data"),
        (b"\x1f\x8b\x08", "gzip compressed data"),
    ],
)
def test_file_type(content: bytes, words: str, place: Path, get: Any) -> None:
    (place / "f").write_bytes(content)
    assert get("file", place / "f").json()["output"] == words


def test_file_type_of_a_missing_file(place: Path, get: Any) -> None:
    answer = get("file", place / "none")
    assert answer.status_code == 200
    assert "No such file or directory" in answer.json()["output"]
    assert get("file", place).json()["output"] == "directory"


def test_chmod_and_chown(place: Path, send: Any) -> None:
    (place / "f").write_text("x")
    assert send("PUT", "chmod", place / "f", mode="640").json()["output"]["permissions"] == "rw-r-----"
    assert send("PUT", "chmod", place / "f", mode="999").status_code == 500
    assert send("PUT", "chmod", place / "none", mode="600").status_code == 404
    assert send("PUT", "chown", place / "f").status_code == 200
    assert send("PUT", "chown", place / "f", owner="nobody-like-that").status_code == 400
    assert send("PUT", "chown", place / "f", group="nobody-like-that").status_code == 500


@pytest.mark.parametrize("compression", ["none", "gzip", "bzip2", "xz"])
def test_compress_and_extract(compression: str, place: Path, send: Any) -> None:
    (place / "in" / "sub").mkdir(parents=True)
    (place / "in" / "sub" / "a.txt").write_text("a")
    (place / "out").mkdir()
    archive = str(place / "archive")
    packed = send("POST", "compress", place / "in", targetPath=archive, compression=compression)
    assert packed.status_code == 204, packed.text
    unpacked = send("POST", "extract", archive, targetPath=str(place / "out"), compression=compression)
    assert unpacked.status_code == 204, unpacked.text
    assert (place / "out" / "in" / "sub" / "a.txt").read_text() == "a"


def test_compress_keeps_the_dot(place: Path, send: Any, tmp_path: Path) -> None:
    (place / "in").mkdir()
    (place / "in" / "a.txt").write_text("a")
    (place / "link").symlink_to("in")
    for number, name in enumerate(("in", "link")):
        archive = place / f"{number}.tar"
        packed = send("POST", "compress", f"{place}/{name}/.", targetPath=str(archive), compression="none")
        assert packed.status_code == 204, packed.text
        with tarfile.open(archive) as tar:
            assert tar.getnames() == [".", "./a.txt"]
    (place / "way-out").symlink_to(tmp_path)
    out = send("POST", "compress", f"{place}/way-out/.", targetPath=str(place / "out.tar"))
    assert out.status_code == 403


def test_compress_by_pattern(place: Path, send: Any) -> None:
    for name in ("a.txt", "b.txt", "c.dat"):
        (place / name).write_text(name)
    archive = place.parent / f"{place.name}.tar"
    fields = {"matchPattern": r".*/[ac]\.txt", "compression": "none"}
    assert send("POST", "compress", place / "x", targetPath=str(archive), **fields).status_code == 204
    with tarfile.open(archive) as packed:
        assert packed.getnames() == ["./a.txt"]


def test_errors_of_tar(place: Path, send: Any) -> None:
    (place / "f").write_text("not an archive")
    target = str(place / "t")
    assert send("POST", "compress", place / "none", targetPath=target).status_code == 404
    assert send("POST", "extract", place / "none", targetPath=str(place)).status_code == 404
    assert send("POST", "extract", place / "f", targetPath=str(place / "none")).status_code == 404
    assert send("POST", "extract", place / "f", targetPath=str(place)).status_code == 500


def test_path_has_to_be_given_and_absolute(api: Any, get: Any, send: Any) -> None:
    assert "not an absolute path" in get("ls", "relative/path").json()["message"]
    assert api.http.get(f"{api.ops_url}/ls").status_code == 400
    assert api.http.post(f"{api.ops_url}/mkdir", json={"parent": True}).status_code == 400
    assert api.http.post(f"{api.ops_url}/mkdir", json={"path": None}).status_code == 400
    assert api.http.post(f"{api.ops_url}/mkdir", content=b"{").status_code == 400


# --- confinement


OPERATIONS = [
    ("GET", "ls", {}), ("GET", "stat", {}), ("GET", "checksum", {}), ("GET", "file", {}),
    ("GET", "head", {}), ("GET", "tail", {}), ("GET", "view", {}), ("GET", "download", {}),
    ("DELETE", "rm", {}), ("POST", "mkdir", {}), ("PUT", "chmod", {"mode": "777"}), ("PUT", "chown", {}),
    ("POST", "symlink", {"linkPath": "PLACE/new"}), ("POST", "compress", {"targetPath": "PLACE/new"}),
    ("POST", "extract", {"targetPath": "PLACE"}),
]  # fmt: skip


def ask(api: Any, method: str, operation: str, path: str, fields: dict[str, str], place: Path) -> httpx.Response:
    url = f"{api.ops_url}/{operation}"
    body = {key: value.replace("PLACE", str(place)) for key, value in fields.items()}
    if method in ("GET", "DELETE"):
        answer: httpx.Response = api.http.request(method, url, params={"path": path})
    else:
        answer = api.http.request(method, url, json={"path": path, **body})
    return answer


@pytest.mark.parametrize(("method", "operation", "fields"), OPERATIONS)
def test_nothing_outside_by_name(
    method: str, operation: str, fields: dict[str, str], api: Any, place: Path, server: LocalFirecREST
) -> None:
    root = server.home.parent
    for path in (f"{place}/../../../state/secrets.json", "/etc/passwd", str(root.parent), f"{root}x"):
        answer = ask(api, method, operation, path, fields, place)
        assert answer.status_code == 400
        assert "does not match any of the defined filesystem paths" in answer.json()["message"]


@pytest.mark.parametrize(("method", "operation", "fields"), OPERATIONS)
def test_nothing_outside_through_a_link(
    method: str, operation: str, fields: dict[str, str], api: Any, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("precious")
    (place / "way-out").symlink_to(tmp_path)
    answer = ask(api, method, operation, f"{place}/way-out/precious", fields, place)
    assert answer.status_code == 403, answer.text
    assert "Permission denied" in answer.json()["message"]
    assert (tmp_path / "precious").read_text() == "precious"


def test_targets_are_confined_too(api: Any, place: Path, tmp_path: Path, send: Any) -> None:
    (place / "f").write_text("x")
    (place / "way-out").symlink_to(tmp_path)
    for outside, status in ((str(tmp_path / "new"), 400), (str(place / "way-out" / "new"), 403)):
        assert send("POST", "compress", place / "f", targetPath=outside).status_code == status
        assert send("POST", "symlink", place / "f", linkPath=outside).status_code == status
        assert send("POST", "extract", place / "f", targetPath=outside).status_code == status
        for operation in ("mv", "cp"):
            answer = api.http.post(
                f"{api.transfer_url}/{operation}", json={"path": str(place / "f"), "targetPath": outside}
            )
            assert answer.status_code == status
    upload = api.http.post(
        f"{api.ops_url}/upload",
        params={"path": str(place)},
        files={"file": ("../../../escaped", b"x")},
    )
    assert upload.status_code in (204, 400, 404)
    assert not (place.parent.parent.parent / "escaped").exists()


def test_removing_a_link_leaves_what_it_points_to(place: Path, tmp_path: Path, api: Any) -> None:
    (tmp_path / "precious").write_text("precious")
    (place / "way-out").symlink_to(tmp_path)
    answer = api.http.delete(f"{api.ops_url}/rm", params={"path": str(place / "way-out")})
    assert answer.status_code == 204
    assert (tmp_path / "precious").exists()
    assert not os.path.lexists(place / "way-out")


def test_root_itself_is_not_removed(server: LocalFirecREST, api: Any) -> None:
    answer = api.http.delete(f"{api.ops_url}/rm", params={"path": str(server.home.parent)})
    assert answer.status_code == 403
    assert server.home.is_dir()


def test_archive_cannot_write_outside_of_its_target(place: Path, send: Any) -> None:
    with tarfile.open(place / "evil.tar", "w") as archive:
        member = tarfile.TarInfo("../../escaped")
        member.size = 1
        archive.addfile(member, BytesIO(b"x"))
    (place / "target").mkdir()
    fields = {"targetPath": str(place / "target"), "compression": "none"}
    assert send("POST", "extract", place / "evil.tar", **fields).status_code == 500
    assert not (place.parent / "escaped").exists()


def test_dereferenced_archive_takes_nothing_from_outside(place: Path, tmp_path: Path, send: Any) -> None:
    (tmp_path / "precious").write_text("precious")
    (place / "in").mkdir()
    (place / "in" / "link").symlink_to(tmp_path / "precious")
    fields = {"targetPath": str(place / "a.tgz"), "dereference": True}
    assert send("POST", "compress", place / "in", **fields).status_code == 403


def test_lines_with_a_space_in_the_group_are_lost(server: Any, api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firecrest_local.files.listing.group_name", lambda gid: "domain users")
    folder = server.home / "of-domain-users"
    made = api.http.post(f"{api.ops_url}/mkdir", json={"path": str(folder)})
    assert (made.status_code, made.json()) == (201, {"output": None})
    (folder / "file").touch()
    query = {"path": str(folder)}
    assert api.http.get(f"{api.ops_url}/ls", params=query).json() == {"output": []}
    (row,) = api.http.get(f"{api.ops_url}/ls", params={**query, "numericUid": "true"}).json()["output"]
    assert row["name"] == "file"


def test_checksum_of_an_escaped_name(server: Any, api: Any) -> None:
    (server.home / "a\\b").write_bytes(b"x")
    answer = api.http.get(f"{api.ops_url}/checksum", params={"path": f"{server.home}/a\\b"}).json()["output"]
    assert answer["checksum"] == "\\" + hashlib.sha256(b"x").hexdigest()


def test_empty_file(server: Any, api: Any) -> None:
    (server.home / "empty").touch()
    query = {"path": f"{server.home}/empty"}
    for operation in ("head", "tail"):
        assert api.http.get(f"{api.ops_url}/{operation}", params=query).json()["output"]["content"] == ""
    assert api.http.get(f"{api.ops_url}/view", params=query).json() == {"output": ""}
    download = api.http.get(f"{api.ops_url}/download", params=query)
    assert (download.status_code, download.content) == (200, b"")


MIB = 1024 * 1024
LIMIT = 5 * MIB


@pytest.fixture(scope="module")
def large(server: LocalFirecREST) -> Path:
    """A file of 1 GB that takes no space, with lines at both of its ends."""
    path = server.home / "large"
    with path.open("wb") as file:
        file.write(b"first\nsecond\n")
        file.seek(1024 * MIB)
        file.write(b"\nlast but one\nlast\n")
    return path


@pytest.mark.parametrize(
    ("operation", "params", "content"),
    [
        ("tail", {"lines": 2}, "last but one\nlast\n"),
        ("tail", {"size": 5}, "last\n"),
        ("tail", {"lines": 4, "skip": True}, "last but one\nlast\n"),
        ("head", {"lines": 2}, "first\nsecond\n"),
        ("head", {"size": 5}, "first"),
        ("head", {"lines": 3, "skip": True}, "first\nsecond\n"),
        ("view", {"size": 5, "offset": 0}, "first"),
        ("tail", {"lines": 3}, None),
        ("tail", {"size": LIMIT}, None),
        ("tail", {"lines": 2, "skip": True}, None),
        ("head", {"lines": 3}, None),
        ("head", {"size": LIMIT}, None),
        ("head", {"size": 1, "skip": True}, None),
        ("head", {"lines": 1, "skip": True}, None),
        ("view", {"size": LIMIT, "offset": 0}, None),
        ("download", {}, None),
    ],
)
def test_a_large_file_is_never_in_memory(
    operation: str, params: dict[str, Any], content: str | None, server: LocalFirecREST, large: Path
) -> None:
    operations = server._running.operations
    asked = params if operation in ("view", "download") else {"size": None, "lines": None, "skip": False, **params}
    tracemalloc.start()
    try:
        answer = getattr(operations, operation)(str(large), **asked)
    except OutputTooLarge:
        answer = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert answer == content
    assert peak < 4 * LIMIT


@given(content=st.text("ab\n", max_size=40), block=st.integers(1, 9), count=st.integers(0, 12), last=st.booleans())
def test_lines_are_those_of_the_whole_file(content: str, block: int, count: int, last: bool) -> None:
    data, rows = content.encode(), content.encode().splitlines(keepends=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK", block)
        if last:
            assert data[lines.start_of_last_lines(BytesIO(data), count) :] == b"".join(
                rows[max(len(rows) - count, 0) :]
            )
        else:
            assert data[: lines.end_of_first_lines(BytesIO(data), count)] == b"".join(rows[:count])


@pytest.mark.parametrize("operation", ["head", "tail", "view", "download", "checksum"])
def test_a_pipe_is_not_waited_for(operation: str, place: Path, get: Any) -> None:
    os.mkfifo(place / "pipe")
    assert "Illegal seek" in get(operation, place / "pipe").json()["message"]


def test_an_upload_beside_a_link_stays_inside(server: LocalFirecREST, place: Path, api: Any) -> None:
    (place / "root").symlink_to(server.home.parent)
    files = {"file": ("../outside", b"x")}
    api.http.post(f"{api.ops_url}/upload", params={"path": str(place / "root")}, files=files)
    assert not (server.home.parent.parent / "outside").exists()
