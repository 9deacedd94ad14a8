"""Paths that break the server's shell commands are refused before anything is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.api.remote_paths import check_remote_path
from firecrest_core.connection import Connection
from firecrest_core.errors import InvalidFileName

REFUSED = ["/a/it's", "/it's/a", "/a/new\nline", "/a/tab\t", "/a/\x00", "", "  "]

CALLS: dict[str, Callable[[System, str], Awaitable[object]]] = {
    "list_files": System.list_files,
    "stat": System.stat,
    "has_directory": System.has_directory,
    "sha256": System.sha256,
    "tail": lambda system, path: system.tail(path, lines=1),
    "read_from": lambda system, path: system.read_from(path, 0),
    "make_directory": System.make_directory,
    "symlink to": lambda system, path: system.symlink(path, "/a/link"),
    "symlink at": lambda system, path: system.symlink("/a", path),
    "remove": System.remove,
    "download_small": System.download_small,
}


@pytest.fixture
def system() -> System:
    """A system that nobody answers for."""
    connection = Connection(url="http://127.0.0.1:1", token_url="http://127.0.0.1:1", client_id="me", client_secret="x")
    return FirecRESTClient(connection).system("rig")


@pytest.mark.parametrize("path", REFUSED)
def test_refused(path: str) -> None:
    with pytest.raises(InvalidFileName):
        check_remote_path(path)


@pytest.mark.parametrize("path", ["/a/b.txt", "/a/with space", "/a/ü", "/a/a&b", '/a/a"b', "/a/$HOME", "/a/`id`"])
def test_taken(path: str) -> None:
    assert check_remote_path(path) == path


@pytest.mark.parametrize("path", REFUSED)
@pytest.mark.parametrize("name", CALLS)
async def test_no_request_is_sent(system: System, name: str, path: str) -> None:
    with pytest.raises(InvalidFileName):
        await CALLS[name](system, path)


async def test_no_file_is_written(system: System) -> None:
    with pytest.raises(InvalidFileName):
        await system.upload_small("/a", "it's", b"x")
