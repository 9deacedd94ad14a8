"""A file that gets its name when it is whole, and what is left of it after a break."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from firecrest_core.errors import LocalFileRefused, TransferFailed
from firecrest_core.transfer import limits
from firecrest_core.transfer.partial import PartialFile, hash_file, write_whole

PARTS = limits.cut(10, 4)


async def test_continued_where_it_broke(tmp_path: Path) -> None:
    first = PartialFile(tmp_path / "f", "v1", PARTS)
    assert first.begin() == PARTS
    await first.write(4, b"4567")
    await first.whole(PARTS[1])
    await first.write(0, b"01")  # a part that broke off counts for nothing

    second = PartialFile(tmp_path / "f", "v1", PARTS)
    assert second.begin() == [PARTS[0], PARTS[2]]
    assert not (tmp_path / "f").exists()
    await second.write(0, b"0123")
    await second.write(8, b"89")
    second.finish()
    assert (tmp_path / "f").read_bytes() == b"0123456789"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


async def test_parts_of_two_versions_are_never_mixed(tmp_path: Path) -> None:
    old = PartialFile(tmp_path / "f", "v1", PARTS)
    old.begin()
    await old.whole(PARTS[0])
    assert PartialFile(tmp_path / "f", "v2", PARTS).begin() == PARTS
    assert PartialFile(tmp_path / "g", "v1", PARTS).begin() == PARTS
    assert PartialFile(tmp_path / "f", "v1", limits.cut(10, 5)).begin() == limits.cut(10, 5)


@pytest.mark.parametrize("note", ["", "{", "[]", "[[]]", "null"])
async def test_a_note_that_makes_no_sense(tmp_path: Path, note: str) -> None:
    file = PartialFile(tmp_path / "f", "v1", PARTS)
    file.begin()
    await file.whole(PARTS[0])
    next(tmp_path.glob("*.json")).write_text(note)
    assert PartialFile(tmp_path / "f", "v1", PARTS).begin() == PARTS


async def test_discarded(tmp_path: Path) -> None:
    file = PartialFile(tmp_path / "f", "v1", PARTS)
    file.begin()
    await file.whole(PARTS[0])
    file.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    write_whole(tmp_path / ("n" * 255), b"x")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"x"


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"old")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(TransferFailed, match="f cannot be written: No space left on device. Make room, and try again"):
        write_whole(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_hash(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert hash_file(tmp_path / "f") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(directory: Path) -> dict[str, int]:
    return {entry.suffix or entry.name: entry.stat().st_mode & 0o777 for entry in directory.iterdir()}


async def test_nobody_else_reads_what_is_unfinished(tmp_path: Path, umask: int) -> None:
    file = PartialFile(tmp_path / "f", "v1", PARTS)
    file.begin()
    await file.whole(PARTS[0])
    assert modes(tmp_path) == {".part": 0o600, ".json": 0o600}
    file.finish()
    assert modes(tmp_path) == {"f": 0o666 & ~umask}
    write_whole(tmp_path / "g", b"x")
    assert modes(tmp_path)["g"] == 0o666 & ~umask


@pytest.mark.parametrize("suffix", ["part", "json", "new"])
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
async def test_a_link_in_place_of_an_unfinished_file(tmp_path: Path, suffix: str, link) -> None:
    """Its name can be foreseen, and what it leads to must not be overwritten, nor believed."""
    victim = tmp_path / "victim"
    victim.write_text("[1, 2, 3]0")  # as long as the file, and a note that nothing is missing
    victim.chmod(0o600)
    file = PartialFile(tmp_path / "f", "v1", PARTS)
    if suffix == "json":
        file.begin()
    link(file.path.with_suffix(f".{suffix}"), victim)
    file = PartialFile(tmp_path / "f", "v1", PARTS)
    assert file.begin() == PARTS
    for part in PARTS:
        await file.write(part.start, b"0123456789"[part.start : part.stop])
        await file.whole(part)
    file.finish()
    assert victim.read_text() == "[1, 2, 3]0"
    assert (tmp_path / "f").read_bytes() == b"0123456789"


@pytest.mark.parametrize("suffix", ["part", "json"])
async def test_a_file_that_others_may_write_is_not_continued(tmp_path: Path, suffix: str) -> None:
    file = PartialFile(tmp_path / "f", "v1", PARTS)
    file.begin()
    await file.whole(PARTS[0])
    file.path.with_suffix(f".{suffix}").chmod(0o622)
    assert PartialFile(tmp_path / "f", "v1", PARTS).begin() == PARTS


async def test_a_file_of_somebody_else_is_not_continued(tmp_path: Path, mocker) -> None:
    file = PartialFile(tmp_path / "f", "v1", PARTS)
    file.begin()
    await file.whole(PARTS[0])
    mocker.patch("os.geteuid", return_value=os.geteuid() + 1)
    assert PartialFile(tmp_path / "f", "v1", PARTS).begin() == PARTS


async def test_replaced_by_a_link_while_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    file = PartialFile(tmp_path / "f", "v1", PARTS)
    file.begin()
    file.path.unlink()
    file.path.symlink_to("victim")
    with pytest.raises(TransferFailed, match="was removed or replaced while f was downloaded"):
        await file.write(0, b"evil")
    with pytest.raises(TransferFailed, match="was removed or replaced"):
        file.finish()
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_fifo_in_its_place_does_not_block(tmp_path: Path) -> None:
    file = PartialFile(tmp_path / "f", "v1", PARTS)
    os.mkfifo(file.path)
    assert file.begin() == PARTS


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    file = PartialFile(tmp_path / "f", "v1", PARTS)
    file.path.mkdir()
    with pytest.raises(LocalFileRefused, match=r"\.part cannot be created: .*(another kind|permissions)"):
        file.begin()


def test_a_directory_of_its_final_name(tmp_path: Path) -> None:
    (tmp_path / "f" / "mine").mkdir(parents=True)
    with pytest.raises(LocalFileRefused, match="f cannot be written: Is a directory. Something of another kind"):
        write_whole(tmp_path / "f", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]
