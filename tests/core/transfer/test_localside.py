"""Our side: local paths and paths of object stores."""

from __future__ import annotations

import io
import logging
import os
import socket
from pathlib import Path

import pytest

from firecrest_core.errors import InvalidFileName, LocalFileNotFound, LocalFileRefused, TransferFailed
from firecrest_core.transfer import localside


class Stored:
    """What Airflow's ObjectStoragePath is to us: no ``os.PathLike``, a protocol, a file system behind it."""

    protocol = "s3"

    def __init__(self, path: Path, slash: str = "", fail: bool = False) -> None:
        self._path, self._slash, self._fail = path, slash, fail

    def __str__(self) -> str:
        return f"s3://bucket{self._path}{self._slash}"

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def parent(self) -> Stored:
        return Stored(self._path.parent, fail=self._fail)

    def __truediv__(self, name: str) -> Stored:
        return Stored(self._path / name, fail=self._fail)

    def open(self, mode: str):
        file = self._path.open(mode)
        if self._fail and mode == "wb":
            file.write(b"half")
            file.write = lambda data: (_ for _ in ()).throw(OSError("store is full"))
        return file

    def is_file(self) -> bool:
        return self._path.is_file()

    def is_dir(self) -> bool:
        return self._path.is_dir()

    def iterdir(self):
        return (Stored(entry) for entry in self._path.iterdir())

    def mkdir(self, *, parents: bool, exist_ok: bool) -> None:
        self._path.mkdir(parents=parents, exist_ok=exist_ok)

    def unlink(self) -> None:
        self._path.unlink()


class LocalObjectStoragePath:
    """An ObjectStoragePath of this machine's own file system: its ``str`` is a URL, its ``path`` is not."""

    protocol = "file"
    path = "/data/x"

    def __str__(self) -> str:
        return "file:///data/x"


def test_local_paths() -> None:
    assert localside.as_local_path("/data/x") == Path("/data/x")
    assert localside.as_local_path(Path("/data/x")) == Path("/data/x")
    assert localside.as_local_path("file:///data/x") == Path("/data/x")
    assert localside.as_local_path(LocalObjectStoragePath()) == Path("/data/x")


def test_paths_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert localside.as_local_path("~/x") == tmp_path / "x"
    assert localside.as_local_path("~") == tmp_path
    assert localside.as_local_path("~x/y") == Path("~x/y")
    assert localside.as_local_path(Path("~/x")) == Path("~/x")
    assert localside.expand_home("~/x/") == f"{tmp_path}/x/"


def test_the_text_of_a_url() -> None:
    with pytest.raises(LocalFileNotFound, match="ObjectStoragePath"):
        localside.as_local_path("s3://bucket/key")


def test_a_path_of_a_store() -> None:
    stored = Stored(Path("/k"))
    assert isinstance(stored, localside.StoredPath)
    assert localside.as_local_path(stored) is stored


def test_universal_pathlib() -> None:
    upath = pytest.importorskip("upath")
    assert isinstance(localside.as_local_path(upath.UPath("memory://b/k")), localside.StoredPath)
    assert localside.as_local_path(upath.UPath("file:///data/x")) == Path("/data/x")


def test_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert localside.own_name(Path("a/b")) == "b"
    assert localside.own_name(Path()) == tmp_path.name


@pytest.mark.parametrize(
    ("target", "place"),
    [("new", "new"), ("there/", "there/f"), ("there", "there/f"), ("a/b/c", "a/b/c"), ("a/b/", "a/b/f")],
)
async def test_destination(tmp_path: Path, target: str, place: str) -> None:
    (tmp_path / "there").mkdir()
    found = await localside.destination(f"{tmp_path}/{target}", "f", tree=False)
    assert found == tmp_path / place
    assert (tmp_path / place).parent.is_dir()


async def test_missing_source(tmp_path: Path) -> None:
    with pytest.raises(LocalFileNotFound, match="none: no such file"):
        await localside.source(tmp_path / "none")


async def test_a_link_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(LocalFileNotFound, match="link is a link to gone, which does not exist"):
        await localside.source(tmp_path / "link")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))  # a socket's path is short


@pytest.mark.parametrize(("make", "kind"), [(fifo, "a FIFO"), (unix_socket, "a socket")])
async def test_a_source_without_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "odd")
    with pytest.raises(LocalFileRefused, match=f"odd is {kind}, and only files and directories"):
        await localside.source(tmp_path / "odd")
    with pytest.raises(LocalFileRefused, match="null is a device"):
        await localside.source("/dev/null")


async def test_a_source_that_cannot_be_read(tmp_path: Path, mocker) -> None:
    """Root may read everything, so the refusal is made here."""
    (tmp_path / "secret").touch()
    mocker.patch("os.open", side_effect=PermissionError(13, "Permission denied"))
    with pytest.raises(LocalFileRefused, match="secret cannot be read: Permission denied. Check its permissions"):
        await localside.source(tmp_path / "secret")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("file/f", "file/f cannot be written: .*Something of another kind is in the way"),
        ("n" * 256 + "/f", "File name too long. Choose a shorter name"),
        ("tree/", "tree/f is a directory, and the download has a file"),
    ],
)
async def test_a_destination_that_cannot_be(tmp_path: Path, target: str, words: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "tree" / "f").mkdir(parents=True)
    with pytest.raises(LocalFileRefused, match=words):
        await localside.destination(f"{tmp_path}/{target}", "f", tree=False)


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("tree")])
async def test_no_directory_in_place_of_a_file_or_link(tmp_path: Path, make) -> None:
    make(tmp_path / "f")
    (tmp_path / "tree").mkdir()
    with pytest.raises(LocalFileRefused, match="f is a (file|link), and the download has a directory"):
        await localside.destination(tmp_path, "f", tree=True)


async def test_names_with_a_null(tmp_path: Path) -> None:
    for attempt in (localside.source("a\0b"), localside.destination("a\0b", "f", tree=False)):
        with pytest.raises(InvalidFileName, match="null"):
            await attempt


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"x"), lambda path: path.write_bytes(b"x" * 9)])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, spoil) -> None:
    spoil(tmp_path / "f")
    with pytest.raises(TransferFailed, match="f changed while it was read"):
        localside.read_file(tmp_path / "f", 5)


async def test_a_tree_in_a_store(tmp_path: Path) -> None:
    (tmp_path / "one" / "sub").mkdir(parents=True)
    (tmp_path / "one" / "sub" / "f").write_text("f")
    async with localside.on_disk(Stored(tmp_path / "one")) as here:
        assert (here / "sub" / "f").read_text() == "f"
        async with localside.staged_target(Stored(tmp_path / "two")) as staged_target:
            here.rename(staged_target)
    assert (tmp_path / "two" / "sub" / "f").read_text() == "f"


async def test_nothing_half_written_in_a_store(tmp_path: Path) -> None:
    with pytest.raises(TransferFailed, match="s3://bucket.*store is full"):
        async with localside.staged_target(Stored(tmp_path / "f", fail=True)) as here:
            here.write_bytes(b"content")
    assert not (tmp_path / "f").exists()


async def test_links_do_not_go_into_a_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A link to a directory may lead upwards: its content would be copied without end."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "f").write_text("f")
    (tmp_path / "one" / "same").symlink_to("f")
    (tmp_path / "one" / "up").symlink_to(".")
    (tmp_path / "one" / "broken").symlink_to("gone")
    with caplog.at_level(logging.WARNING):
        async with localside.staged_target(Stored(tmp_path / "two")) as here:
            (tmp_path / "one").rename(here)
    assert sorted(path.name for path in (tmp_path / "two").rglob("*")) == ["f", "same"]
    assert (tmp_path / "two" / "same").read_text() == "f"
    assert caplog.text.count("is left out: an object store has no links") == 2


class Listed:
    """A directory of a store that lists entries of any name."""

    def __init__(self, *names: str) -> None:
        self.name = names[-1]
        self._entries = names[:-1]

    def is_dir(self) -> bool:
        return bool(self._entries)

    def iterdir(self):
        return map(Listed, self._entries)

    def open(self, mode: str):
        return io.BytesIO(b"evil")


@pytest.mark.parametrize("name", ["../evil", "..", "/evil", "a/b", ".", "", "a\0b"])
async def test_names_that_a_store_lists_stay_inside(tmp_path: Path, name: str) -> None:
    (tmp_path / "home").mkdir()
    with pytest.raises(InvalidFileName, match="no file name"):
        localside._copy(Listed("good", name, "tree"), tmp_path / "home" / "here")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["good", "here", "home"]


def test_a_spool_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with localside.spool(tmp_path) as directory:
            assert directory.parent == tmp_path
            assert directory.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LocalFileNotFound, match="none cannot be written"), localside.spool(tmp_path / "none"):
        pass
