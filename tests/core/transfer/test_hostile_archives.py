"""Random archives, two into one target: nothing outside of it changes, and errors are only our own."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from firecrest_core.errors import FirecRESTError
from firecrest_core.transfer.unpacking import UnpackLimits, unpack

pytestmark = pytest.mark.slow

Member: TypeAlias = tuple[str, bytes, str, int, int]

DIR, FILE, LINK, HARD = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
ODD = [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE, b"Z"]

part = st.sampled_from(["a", "b", "sub", "A", "l", "..", ".", "", "n\nl", "n" * 256, "mine", "link", "home", "victim"])
# Most paths are sensible, so that archives get as far as the target.
path = st.one_of(
    st.lists(st.sampled_from(["a", "b", "sub", "l"]), min_size=1, max_size=4).map("/".join),
    st.lists(part, min_size=1, max_size=6).map("/".join),
    part.map("/".__add__),
)
up = st.integers(0, 6).map(lambda number: "/".join([".."] * number) or ".")
target = st.one_of(path, up, st.tuples(path, up).map("/".join), st.tuples(up, path).map("/".join), st.just("@outside"))
kind = st.sampled_from([DIR, DIR, FILE, FILE, FILE, LINK, LINK, LINK, HARD, *ODD])
member = st.tuples(path.map("d/".__add__), kind, target, st.sampled_from([0o644, 0o755, 0o000, 0o7777]), st.integers())
wild = st.tuples(path, kind, target, st.just(0o777), st.just(0))
root = st.sampled_from(["d", "./d", "/d", "d/a", "d/a/b"]).map(lambda name: (name, DIR, "", 0o755, 0))
members = st.tuples(root, st.lists(member, max_size=8), st.lists(wild, max_size=1)).map(
    lambda three: [three[0], *three[1], *three[2]]
)


def write(file: Path, content: list[Member], outside: Path) -> None:
    with tarfile.open(file, "w:gz", compresslevel=1) as tar:
        for name, kind, text, mode, time in content:
            each = tarfile.TarInfo(name)
            each.type, each.mode, each.mtime = kind, mode, time
            if kind in (LINK, HARD):
                each.linkname = text.replace("@outside", str(outside))
            each.size = 4 if each.isreg() else 0
            tar.addfile(each, io.BytesIO(b"evil"))


def state(top: Path) -> dict[str, object]:
    """Return what is below a directory, except for the target and its archive."""
    found: dict[str, object] = {}
    for directory, directories, files in os.walk(top):
        for each in [*directories, *files]:
            path = Path(directory, each)
            info = path.lstat()
            regular = stat.S_ISREG(info.st_mode)
            content = (info.st_nlink, path.read_bytes()) if regular else None
            found[str(path)] = (info.st_mode, info.st_ino, info.st_uid, content)
        if "target" in directories:
            directories.remove("target")
    found.pop(str(top / "home" / "data" / "target"), None)
    return found


@settings(max_examples=200, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(first=members, second=members, existing=st.booleans())
@example(
    first=[("a/b/c", DIR, "", 0o755, 0), ("a/b/c/sub", LINK, "../../..", 0o777, 0)],
    second=[("d", DIR, "", 0o755, 0), ("d/sub", DIR, "", 0o755, 0), ("d/sub/.bashrc", FILE, "", 0o644, 0)],
    existing=False,
)
def test_two_archives_into_one_target(first: list[Member], second: list[Member], existing: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        outside = top / "outside"
        outside.mkdir()
        (outside / "victim").write_text("mine")
        (top / "home" / "data").mkdir(parents=True)
        (top / "home" / "victim").write_text("mine")
        final = top / "home" / "data" / "target"
        if existing:
            (final / "a" / "sub").mkdir(parents=True)
            (final / "mine").write_text("mine")
            (final / "link").symlink_to(outside / "victim")
            (final / "sub").symlink_to(outside)
            (final / "a" / "b").symlink_to("../../..")
        before = state(top)
        for content in (first, second):
            archive = top / "home" / "data" / "target.tar.gz"
            write(archive, content, outside)
            with suppress(FirecRESTError):
                unpack(archive, final, tree=True, limits=UnpackLimits(size=1000, files=20))
            archive.unlink()
            assert state(top) == before
            check_links(final, existing=existing)
        if existing:
            assert (final / "mine").exists()


def check_links(final: Path, *, existing: bool) -> None:
    """Only the user's own links may lead out of the target."""
    own = {final / "link", final / "sub", final / "a" / "b"} if existing else set()
    for each in final.rglob("*"):
        assert not each.lstat().st_mode & 0o7000
        if each.is_symlink() and not own:
            assert Path(os.path.realpath(each)).is_relative_to(final), (each, each.readlink())


@settings(max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(content=members, spoiled=st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), min_size=1, max_size=6))
def test_spoiled_headers(content: list[Member], spoiled: list[tuple[int, int]]) -> None:
    """Bytes of the headers are changed at random: a size, a type, a checksum that may be right again."""
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        (top / "home" / "data").mkdir(parents=True)
        archive = top / "spoiled.tar.gz"
        write(archive, content, top)
        blocks = bytearray(gzip.decompress(archive.read_bytes()))
        for at, value in spoiled:
            at %= len(blocks)
            blocks[at] = value
            mend(blocks, at - at % 512)
        archive.write_bytes(gzip.compress(blocks, 1))
        before = state(top)
        with suppress(FirecRESTError):
            unpack(archive, top / "home" / "data" / "target", tree=True, limits=UnpackLimits(size=1000, files=20))
        assert state(top) == before


def mend(blocks: bytearray, at: int) -> None:
    """Write the checksum of a header, so that the header is read."""
    blocks[at + 148 : at + 156] = b" " * 8
    blocks[at + 148 : at + 156] = b"%06o\0 " % sum(blocks[at : at + 512])
