"""Directories as archives."""

import gzip
import io
import shutil
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from firecrest_core.errors import FileTooLarge, TransferFailed
from firecrest_core.transfer import archive
from firecrest_core.transfer.archive import UnpackLimits


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


def test_more_than_the_limit(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for number in range(3):
        (tmp_path / "one" / str(number)).write_bytes(b"x" * 1000)
    archive.pack(tmp_path / "one", "one", tmp_path / "x.tar.gz")
    for limits, words in (
        (UnpackLimits(size=2999), r"2,999 bytes, the limit.*max_unpacked_size"),
        (UnpackLimits(files=3), r"more than 3 files.*max_unpacked_files"),
    ):
        with pytest.raises(FileTooLarge, match=words):
            archive.unpack(tmp_path / "x.tar.gz", tmp_path / "into" / "two", limits)
        assert list((tmp_path / "into").iterdir()) == []
    assert archive.unpack(tmp_path / "x.tar.gz", tmp_path / "into" / "two", UnpackLimits(3000, 4)) == 3000


def test_a_bomb_stops_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10 * 1024 * 1024
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(free * 2, free, free))
    unpacked: list[int] = []

    class Zeros(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        for number in range(20):
            member = tarfile.TarInfo("d" if number == 0 else f"d/{number}")
            member.type = tarfile.DIRTYPE if number == 0 else tarfile.REGTYPE
            member.size = 0 if number == 0 else 1024 * 1024
            tar.addfile(member, Zeros())
    assert (tmp_path / "x.tar.gz").stat().st_size < 100_000
    makefile = tarfile.TarFile.makefile

    def count(self: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
        unpacked.append(member.size)
        makefile(self, member, target)

    monkeypatch.setattr(tarfile.TarFile, "makefile", count)
    with pytest.raises(FileTooLarge, match="nine tenths of the free disk"):
        archive.unpack(tmp_path / "x.tar.gz", tmp_path / "into" / "two")
    assert sum(unpacked) == 9 * 1024 * 1024
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_without_end_fills_no_memory(tmp_path: Path, kind: bytes) -> None:
    """A few kilobytes of gzip are a header of many megabytes, which tarfile would read at once."""
    size = 64 * 1024 * 1024
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, size
    with gzip.open(tmp_path / "x.tar.gz", "wb", compresslevel=1) as file:
        file.write(header.tobuf())
        for _ in range(size // 1024**2):
            file.write(bytes(1024**2))
    tracemalloc.start()
    try:
        with pytest.raises(TransferFailed, match="cannot be unpacked"):
            archive.unpack(tmp_path / "x.tar.gz", tmp_path / "two")
        assert tracemalloc.get_traced_memory()[1] < size // 4
    finally:
        tracemalloc.stop()


def test_headers_one_in_the_other(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type = tarfile.XGLTYPE
    with gzip.open(tmp_path / "x.tar.gz", "wb") as file:
        file.write(header.tobuf() * 100_000)
    with pytest.raises(TransferFailed, match="cannot be unpacked"):
        archive.unpack(tmp_path / "x.tar.gz", tmp_path / "two")
