"""A file that gets its name when it is whole, and what is left of it after a break."""

from pathlib import Path

import pytest

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

    def full(self: PartialFile) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PartialFile, "finish", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_hash(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert hash_file(tmp_path / "f") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
