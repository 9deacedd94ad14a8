"""Local directories that are packed, and what may be in them."""

from __future__ import annotations

import os
import socket
import tarfile
from pathlib import Path

import pytest

from firecrest_core.errors import LocalFileRefused, TransferFailed
from firecrest_core.transfer import packing
from firecrest_core.transfer.packing import pack


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "f").write_bytes(b"x" * 100_000)
    return tmp_path / "tree"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))  # a socket's path is short


@pytest.mark.parametrize(("make", "kind"), [(fifo, "FIFO"), (unix_socket, "socket")])
def test_what_has_no_content(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make, kind: str) -> None:
    """To open a FIFO would wait for somebody who writes to it."""
    monkeypatch.chdir(tree)
    make(tree / "sub" / "odd")
    with pytest.raises(LocalFileRefused, match=f"sub/odd is a {kind}, and only files and directories are uploaded"):
        pack(tree, "tree", tmp_path / "x.tar.gz")


def test_a_fifo_that_comes_at_the_last_moment(tree: Path, tmp_path: Path, mocker) -> None:
    usual = os.open

    def replaced(path, flags, *rest, **more) -> int:
        if str(path).endswith("tree/f"):
            (tree / "f").unlink()
            os.mkfifo(tree / "f")
        return usual(path, flags, *rest, **more)

    mocker.patch("os.open", replaced)
    with pytest.raises(LocalFileRefused, match="f is a FIFO"):
        pack(tree, "tree", tmp_path / "x.tar.gz")


def test_a_link_to_an_odd_file_stays_a_link(tree: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tree / "link").symlink_to(tmp_path / "pipe")
    (tree / "broken").symlink_to("gone")
    assert pack(tree, "tree", tmp_path / "x.tar.gz") == 100_000
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        assert tar.getmember("tree/link").linkname == str(tmp_path / "pipe")
        assert tar.getmember("tree/broken").issym()


def test_it_shrinks(tree: Path, tmp_path: Path, mocker) -> None:
    add_file = packing._add_file

    def shrunk(tar, content, path, arcname) -> int:
        info = tar.gettarinfo

        def then_shrink(*arguments, **more) -> tarfile.TarInfo:
            member = info(*arguments, **more)
            os.truncate(path, 10)
            return member

        mocker.patch.object(tar, "gettarinfo", then_shrink)
        return add_file(tar, content, path, arcname)

    mocker.patch.object(packing, "_add_file", shrunk)
    with pytest.raises(TransferFailed, match="tree/f became shorter while it was packed. Upload it again"):
        pack(tree, "tree", tmp_path / "x.tar.gz")


def test_it_vanishes(tree: Path, tmp_path: Path, mocker) -> None:
    usual = os.listdir

    def then_remove(path) -> list[str]:
        entries = usual(path)
        (tree / "f").unlink(missing_ok=True)
        return entries

    mocker.patch("os.listdir", then_remove)
    with pytest.raises(TransferFailed, match="tree/f vanished while its directory was packed"):
        pack(tree, "tree", tmp_path / "x.tar.gz")


@pytest.mark.parametrize("call", ["listdir", "open"])
def test_it_is_not_readable(tree: Path, tmp_path: Path, mocker, call: str) -> None:
    """Root may read everything, so the refusal is made here."""
    usual = getattr(os, call)

    def refuse(path, *rest, **more):
        if Path(path).is_relative_to(tree):
            raise PermissionError(13, "Permission denied")
        return usual(path, *rest, **more)

    mocker.patch(f"os.{call}", refuse)
    with pytest.raises(LocalFileRefused, match="tree(/f)? cannot be read: Permission denied. Check its permissions"):
        pack(tree, "tree", tmp_path / "x.tar.gz")


def test_no_room_for_the_archive(tree: Path) -> None:
    """Linux has a device that is always full."""
    with pytest.raises(TransferFailed, match="No space left on device. Make room"):
        pack(tree, "tree", Path("/dev/full"))


def test_a_deep_tree(tree: Path, tmp_path: Path) -> None:
    """Deeper than Python's recursion limit lets tarfile go by itself."""
    deep = tree / "sub"
    for _ in range(600):
        deep /= "d"
        deep.mkdir()
    pack(tree, "tree", tmp_path / "x.tar.gz")
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        assert len(tar.getmembers()) == 603


def test_two_names_of_a_file(tree: Path, tmp_path: Path) -> None:
    (tree / "g").hardlink_to(tree / "f")
    assert pack(tree, "tree", tmp_path / "x.tar.gz") == 100_000
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        assert tar.getmember("tree/g").linkname == "tree/f"
