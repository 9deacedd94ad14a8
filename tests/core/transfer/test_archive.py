"""Directories as archives."""

import io
import tarfile
from pathlib import Path

import pytest

from firecrest_core.errors import TransferFailed
from firecrest_core.transfer import archive


def tree(root: Path) -> Path:
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "a's & b.txt").write_text("a")
    (root / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (root / "sub" / "run.sh").chmod(0o755)
    (root / "inside").symlink_to("sub/run.sh")
    return root


def test_there_and_back(tmp_path: Path) -> None:
    assert archive.pack(tree(tmp_path / "one"), "two", tmp_path / "x.tar.gz") == 11
    assert archive.unpack(tmp_path / "x.tar.gz", tmp_path / "three") == 11
    three = tmp_path / "three"
    assert sorted(str(path.relative_to(three)) for path in three.rglob("*")) == [
        "a's & b.txt", "inside", "sub", "sub/empty", "sub/run.sh"
    ]  # fmt: skip
    assert (three / "inside").readlink() == Path("sub/run.sh")
    assert (three / "sub/run.sh").stat().st_mode & 0o111


def test_merged_into_what_is_there(tmp_path: Path) -> None:
    archive.pack(tree(tmp_path / "one"), "one", tmp_path / "x.tar.gz")
    (tmp_path / "two" / "sub" / "run.sh").mkdir(parents=True)
    (tmp_path / "two" / "mine").write_text("mine")
    archive.unpack(tmp_path / "x.tar.gz", tmp_path / "two")
    assert (tmp_path / "two" / "mine").read_text() == "mine"
    assert (tmp_path / "two" / "sub" / "run.sh").is_file()


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert archive.pack(tmp_path / "f", "empty", tmp_path / "x.tar.gz") == 0
    archive.unpack(tmp_path / "x.tar.gz", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == b""


def test_links_that_lead_out_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = tree(tmp_path / "one")
    (one / "absolute").symlink_to("/etc/hostname")
    (one / "upwards").symlink_to("../../x")
    archive.pack(one, "one", tmp_path / "x.tar.gz")
    archive.unpack(tmp_path / "x.tar.gz", tmp_path / "two")
    assert not (tmp_path / "two" / "absolute").is_symlink()
    assert not (tmp_path / "two" / "upwards").is_symlink()
    assert "absolute is left out" in caplog.text


@pytest.mark.parametrize("name", ["../evil", "/../evil", "d/../../evil"])
def test_paths_that_lead_out(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(TransferFailed, match="cannot be unpacked"):
        archive.unpack(tmp_path / "x.tar.gz", tmp_path / "into" / "two")
    assert not list(tmp_path.rglob("evil"))


def test_an_absolute_root_stays_inside(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo(str(victim))
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    archive.unpack(tmp_path / "x.tar.gz", tmp_path / "into" / "two")
    assert victim.read_text() == "mine"
    assert (tmp_path / "into" / "two").read_text() == "x"


@pytest.mark.parametrize("cut", [0, 10, 60])
def test_no_archive(tmp_path: Path, cut: int) -> None:
    archive.pack(tree(tmp_path / "one"), "one", tmp_path / "x.tar.gz")
    whole = (tmp_path / "x.tar.gz").read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(whole[:cut])
    with pytest.raises(TransferFailed):
        archive.unpack(tmp_path / "x.tar.gz", tmp_path / "two")
    assert not (tmp_path / "two").exists()
