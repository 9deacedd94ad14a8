"""Archives from a system, which may be broken or made to do harm."""

import gzip
import io
import os
import shutil
import stat
import tarfile
import tracemalloc
from contextlib import nullcontext
from pathlib import Path

import pytest

from firecrest_core.errors import FileTooLarge, LocalFileRefused, TransferFailed
from firecrest_core.transfer import merging, unpacking
from firecrest_core.transfer.packing import pack
from firecrest_core.transfer.unpacking import UnpackLimits, unpack


def tree(root: Path) -> Path:
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "a's & b.txt").write_text("a")
    (root / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (root / "sub" / "run.sh").chmod(0o755)
    (root / "inside").symlink_to("sub/run.sh")
    return root


def test_there_and_back(tmp_path: Path) -> None:
    assert pack(tree(tmp_path / "one"), "two", tmp_path / "x.tar.gz") == 11
    assert unpack(tmp_path / "x.tar.gz", tmp_path / "three", tree=True) == 11
    three = tmp_path / "three"
    assert sorted(str(path.relative_to(three)) for path in three.rglob("*")) == [
        "a's & b.txt", "inside", "sub", "sub/empty", "sub/run.sh"
    ]  # fmt: skip
    assert (three / "inside").readlink() == Path("sub/run.sh")
    assert (three / "sub/run.sh").stat().st_mode & 0o111


def test_merged_into_what_is_there(tmp_path: Path) -> None:
    pack(tree(tmp_path / "one"), "one", tmp_path / "x.tar.gz")
    (tmp_path / "two" / "sub").mkdir(parents=True)
    (tmp_path / "two" / "mine").write_text("mine")
    (tmp_path / "two" / "sub" / "run.sh").write_text("old")
    unpack(tmp_path / "x.tar.gz", tmp_path / "two", tree=True)
    assert (tmp_path / "two" / "mine").read_text() == "mine"
    assert (tmp_path / "two" / "sub" / "run.sh").read_text() == "#!/bin/sh\n"
    assert (tmp_path / "two" / "sub" / "empty").is_dir()


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert pack(tmp_path / "f", "empty", tmp_path / "x.tar.gz") == 0
    unpack(tmp_path / "x.tar.gz", tmp_path / "g", tree=False)
    assert (tmp_path / "g").read_bytes() == b""


def test_links_that_lead_out_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = tree(tmp_path / "one")
    (one / "absolute").symlink_to("/etc/hostname")
    (one / "upwards").symlink_to("../../x")
    pack(one, "one", tmp_path / "x.tar.gz")
    unpack(tmp_path / "x.tar.gz", tmp_path / "two", tree=True)
    assert not (tmp_path / "two" / "absolute").is_symlink()
    assert not (tmp_path / "two" / "upwards").is_symlink()
    assert "'absolute' is left out: it is a link that leads out" in caplog.text


@pytest.mark.parametrize("name", ["../evil", "/../evil", "d/../../evil"])
def test_paths_that_lead_out(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(TransferFailed, match="cannot be unpacked"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "into" / "two", tree=True)
    assert not list(tmp_path.rglob("evil"))


def test_an_absolute_root_stays_inside(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo(str(victim))
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    unpack(tmp_path / "x.tar.gz", tmp_path / "into" / "two", tree=False)
    assert victim.read_text() == "mine"
    assert (tmp_path / "into" / "two").read_text() == "x"


@pytest.mark.parametrize("cut", [0, 10, 60])
def test_no_archive(tmp_path: Path, cut: int) -> None:
    pack(tree(tmp_path / "one"), "one", tmp_path / "x.tar.gz")
    whole = (tmp_path / "x.tar.gz").read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(whole[:cut])
    with pytest.raises(TransferFailed):
        unpack(tmp_path / "x.tar.gz", tmp_path / "two", tree=True)
    assert not (tmp_path / "two").exists()


def test_more_than_the_limit(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for number in range(3):
        (tmp_path / "one" / str(number)).write_bytes(b"x" * 1000)
    pack(tmp_path / "one", "one", tmp_path / "x.tar.gz")
    for limits, words in (
        (UnpackLimits(size=2999), r"2,999 bytes, the limit.*max_unpacked_size"),
        (UnpackLimits(files=3), r"more than 3 files.*max_unpacked_files"),
    ):
        with pytest.raises(FileTooLarge, match=words):
            unpack(tmp_path / "x.tar.gz", tmp_path / "into" / "two", tree=True, limits=limits)
        assert list((tmp_path / "into").iterdir()) == []
    assert unpack(tmp_path / "x.tar.gz", tmp_path / "into" / "two", tree=True, limits=UnpackLimits(3000, 4)) == 3000


def test_a_bomb_stops_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10 * 1024 * 1024
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(free * 2, free, free))
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
    write = unpacking._Unpacking._write

    def count(self, reader, member: tarfile.TarInfo, path) -> None:
        unpacked.append(member.size)
        write(self, reader, member, path)

    monkeypatch.setattr(unpacking._Unpacking, "_write", count)
    with pytest.raises(FileTooLarge, match="nine tenths of the free disk"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "into" / "two", tree=True)
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
            unpack(tmp_path / "x.tar.gz", tmp_path / "two", tree=True)
        assert tracemalloc.get_traced_memory()[1] < size // 4
    finally:
        tracemalloc.stop()


def test_headers_one_in_the_other(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type = tarfile.XGLTYPE
    with gzip.open(tmp_path / "x.tar.gz", "wb") as file:
        file.write(header.tobuf() * 100_000)
    with pytest.raises(TransferFailed, match="cannot be unpacked"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "two", tree=True)


DIR, FILE, LINK, HARD = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
TREE = ("d", DIR, b"")


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_a_second_archive_does_not_write_through_a_link_of_the_first(tmp_path: Path, write_tar) -> None:
    """The link is harmless where it is unpacked, and leads out where its directory is moved to."""
    target = tmp_path / "home" / "data" / "results"
    first = write_tar(("a/b/c", DIR, b""), ("a/b/c/sub", LINK, "../../.."), ("a/b/c/deep", DIR, b""))
    unpack(first, target, tree=True)
    assert names(target) == ["deep"]
    unpack(write_tar(TREE, ("d/sub", DIR, b""), ("d/sub/.bashrc", FILE, b"evil")), target, tree=True)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob(".bashrc")] == ["home/data/results/sub/.bashrc"]


def test_a_chain_of_links_does_not_lead_out(tmp_path: Path, write_tar) -> None:
    """Each link alone stays inside: ``out`` is ``a/b/up/..`` by its text, and the directory above by its way."""
    deep = [("d/a", DIR, b""), ("d/a/b", DIR, b"")]
    unpack(write_tar(TREE, *deep, ("d/a/b/up", LINK, "../.."), ("d/out", LINK, "a/b/up/..")), tmp_path / "t", tree=True)
    for path in (tmp_path / "t").rglob("*"):
        assert path.resolve().is_relative_to(tmp_path / "t"), path


@pytest.mark.parametrize("whose", ["outside", "t/elsewhere"])
def test_no_link_at_the_destination_is_followed(tmp_path: Path, write_tar, whose: str) -> None:
    (tmp_path / whose).mkdir(parents=True)
    (tmp_path / "t").mkdir(exist_ok=True)
    (tmp_path / "t" / "sub").symlink_to(tmp_path / whose)
    archive = write_tar(TREE, ("d/first", FILE, b"x"), ("d/sub", DIR, b""), ("d/sub/f", FILE, b"evil"))
    with pytest.raises(LocalFileRefused, match="t/sub is a link, and the download has a directory.*Remove it first"):
        unpack(archive, tmp_path / "t", tree=True)
    assert list((tmp_path / whose).iterdir()) == []
    assert not (tmp_path / "t" / "first").exists()


def test_a_link_that_comes_while_it_is_merged_is_not_followed(tmp_path: Path, write_tar, monkeypatch) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "t" / "sub").mkdir(parents=True)
    check = merging._check_entries

    def then_replace(*arguments) -> None:
        check(*arguments)
        if not (tmp_path / "t" / "sub").is_symlink():
            (tmp_path / "t" / "sub").rmdir()
            (tmp_path / "t" / "sub").symlink_to(tmp_path / "outside")

    monkeypatch.setattr(merging, "_check_entries", then_replace)
    with pytest.raises(LocalFileRefused, match="another kind is in the way"):
        unpack(write_tar(TREE, ("d/sub", DIR, b""), ("d/sub/f", FILE, b"evil")), tmp_path / "t", tree=True)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_is_replaced_not_written_through(tmp_path: Path, write_tar) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "f").symlink_to("../victim")
    unpack(write_tar(TREE, ("d/f", FILE, b"new")), tmp_path / "t", tree=True)
    (tmp_path / "g").symlink_to("victim")
    unpack(write_tar(("f", FILE, b"new")), tmp_path / "g", tree=False)
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "t" / "f").read_text() == (tmp_path / "g").read_text() == "new"


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("d/sub", FILE, b"x"), "t/sub is a directory, and the download has a file or link"),
        (("d/sub", LINK, "f"), "t/sub is a directory, and the download has a file or link"),
        (("d/mine", DIR, b""), "t/mine is a file, and the download has a directory"),
    ],
)
def test_what_is_of_another_kind_stays(tmp_path: Path, write_tar, member, words: str) -> None:
    (tmp_path / "t" / "sub" / "precious").mkdir(parents=True)
    (tmp_path / "t" / "mine").write_text("mine")
    with pytest.raises(LocalFileRefused, match=words):
        unpack(write_tar(TREE, ("d/first", FILE, b"x"), member), tmp_path / "t", tree=True)
    assert names(tmp_path / "t") == ["mine", "sub", "sub/precious"]
    with pytest.raises(LocalFileRefused, match="t is a directory"):
        unpack(write_tar(("f", FILE, b"x")), tmp_path / "t", tree=False)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("f", "f"),
        ("sub/../f", "f"),  # links lead where the text says, also if sub is a link one day
        ("./f", "f"),
        ("none", "none"),
        ("..", None),
        ("/etc/passwd", None),
        ("//etc", None),
        ("sub/../../d", None),
        ("sub/../..", None),
    ],
)
def test_links(tmp_path: Path, write_tar, text: str, kept: str | None) -> None:
    unpack(write_tar(TREE, ("d/sub", DIR, b""), ("d/f", FILE, b""), ("d/link", LINK, text)), tmp_path / "t", tree=True)
    link = tmp_path / "t" / "link"
    assert (str(link.readlink()) if link.is_symlink() else None) == kept


def test_nothing_is_written_below_a_link(tmp_path: Path, write_tar) -> None:
    for members in ([("d/l", LINK, "."), ("d/l/f", FILE, b"x")], [("d/l/f", FILE, b"x"), ("d/l", LINK, ".")]):
        with pytest.raises(TransferFailed, match="has 'l' twice"):
            unpack(write_tar(TREE, *members), tmp_path / "t", tree=True)
    assert names(tmp_path) == ["x.tar.gz"]


def test_hard_links(tmp_path: Path, write_tar, caplog) -> None:
    (tmp_path / "victim").write_text("mine")
    archive = write_tar(
        TREE,
        ("d/f", FILE, b"x"),
        ("d/same", HARD, "d/f"),
        ("d/link", LINK, "f"),
        ("d/link2", HARD, "d/link"),
        ("d/none", HARD, "d/gone"),
        ("d/dir", HARD, "d"),
        ("d/below", HARD, "d/f/f"),
        ("d/outside", HARD, str(tmp_path / "victim")),
    )
    unpack(archive, tmp_path / "t", tree=True)
    assert names(tmp_path / "t") == ["f", "link", "link2", "same"]
    assert (tmp_path / "t" / "same").samefile(tmp_path / "t" / "f")
    assert str((tmp_path / "t" / "link2").readlink()) == "f"
    assert caplog.text.count("is a hard link to what is not in the archive") == 4
    with pytest.raises(TransferFailed, match="no path inside"):
        unpack(write_tar(TREE, ("d/out", HARD, "../victim")), tmp_path / "u", tree=True)


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"Z"])
def test_what_is_no_file_is_left_out(tmp_path: Path, write_tar, caplog, kind: bytes) -> None:
    unpack(write_tar(TREE, ("d/odd\nname", kind, b""), ("d/f", FILE, b"x")), tmp_path / "t", tree=True)
    assert names(tmp_path / "t") == ["f"]
    assert r"t: 'odd\nname' is left out: it is no file, directory or link" in caplog.text


def test_a_log_has_room_for_a_few_that_are_left_out(tmp_path: Path, write_tar, caplog) -> None:
    unpack(write_tar(TREE, *((f"d/{number}", LINK, "/") for number in range(1000))), tmp_path / "t", tree=True)
    assert len(caplog.records) == 21
    assert "1000 members were left out" in caplog.text


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes(tmp_path: Path, write_tar, umask: int) -> None:
    before = os.umask(umask)
    try:
        unpack(write_tar(TREE, ("d/f", FILE, b"x"), mode=0o7777), tmp_path / "t", tree=True)
        unpack(write_tar(("f", FILE, b"x"), mode=0), tmp_path / "g", tree=False)
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "t", tmp_path / "t/f", tmp_path / "g")
    }
    assert modes == {"t": 0o777 & ~umask, "f": 0o777 & ~umask, "g": 0o600}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("d/f", FILE, b"x"), ("d/f", FILE, b"y")], "has 'f' twice"),
        ([("d/f", FILE, b"x"), ("d/f", DIR, b"")], "has 'f' twice"),
        ([("d/f", FILE, b"x"), ("d/f/g", FILE, b"")], "has 'f' twice"),
        ([("d/f", LINK, "x"), ("d/f", FILE, b"")], "has 'f' twice"),
        ([("d/../f", FILE, b"x")], r"'d/../f' is no path inside"),
        ([("e/f", FILE, b"x")], "'e/f' is outside of 'd'"),
        ([("d/l", LINK, "a\0b")], None),
        ([("d/" + "a/" * 201 + "f", FILE, b"x")], "more than 200 directories in each other"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, write_tar, members, words: str | None) -> None:
    with pytest.raises(TransferFailed, match=words) if words else nullcontext():
        unpack(write_tar(TREE, ("d/first", FILE, b"x"), *members), tmp_path / "t", tree=True)
    assert (tmp_path / "t").exists() is (words is None)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("header", "words"),
    [({"path": "d/a\0b"}, r"'d/a\\x00b' is no path"), ({"path": "d/l", "linkpath": "a\0b"}, "'l': embedded null")],
)
def test_names_with_a_null(tmp_path: Path, header: dict[str, str], words: str) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        tree = tarfile.TarInfo("d")
        tree.type = DIR
        tar.addfile(tree)
        member = tarfile.TarInfo("d/l")
        member.type, member.linkname, member.pax_headers = LINK, "f", header
        tar.addfile(member)
    with pytest.raises(TransferFailed, match=words):
        unpack(tmp_path / "x.tar.gz", tmp_path / "t", tree=True)
    assert not (tmp_path / "t").exists()


def test_odd_names_that_files_may_have(tmp_path: Path, write_tar) -> None:
    unpack(write_tar(TREE, ("d/a\nb\x1b[31m", FILE, b"x"), ("d/-rf *", FILE, b"x")), tmp_path / "t", tree=True)
    assert names(tmp_path / "t") == ["-rf *", "a\nb\x1b[31m"]


def test_a_name_that_is_too_long(tmp_path: Path, write_tar) -> None:
    with pytest.raises(LocalFileRefused, match="in .*/t cannot be written: File name too long. Choose a shorter name"):
        unpack(write_tar(TREE, ("d/" + "n" * 256, FILE, b"x")), tmp_path / "t", tree=True)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    "members", [[("d/Data", FILE, b"1"), ("d/data", FILE, b"2")], [("d/D/f", FILE, b"1"), ("d/d", DIR, b"")]]
)
def test_names_that_the_file_system_takes_for_one(tmp_path: Path, write_tar, monkeypatch, members) -> None:
    """As on a Mac. Here both are files of their own."""
    unpack(write_tar(TREE, *members), tmp_path / "t", tree=True)
    assert len(names(tmp_path / "t")) >= 2
    monkeypatch.setattr(unpacking, "_place", lambda path: "/".join((unpacking._NAME, *path)).lower())
    with pytest.raises(TransferFailed, match="another name that is the same for the local file system"):
        unpack(write_tar(TREE, *members), tmp_path / "u", tree=True)
    assert not (tmp_path / "u").exists()


@pytest.mark.parametrize(
    ("member", "tree", "words"),
    [
        (("f", FILE, b"x"), True, "holds no directory"),
        (("d", DIR, b""), False, "holds no file"),
        (("l", LINK, ".."), True, "holds no directory"),
        (("l", LINK, "x"), False, "holds no file"),
        (("h", HARD, "h"), False, "holds no file"),
    ],
)
def test_something_else_than_was_asked_for(tmp_path: Path, write_tar, member, tree: bool, words: str) -> None:
    """A link in its place would be followed by the next download into it."""
    with pytest.raises(TransferFailed, match=words):
        unpack(write_tar(member), tmp_path / "t", tree=tree)
    assert not os.path.lexists(tmp_path / "t")


def test_the_disk_is_full(tmp_path: Path, write_tar, mocker) -> None:
    mocker.patch("os.mkdir", side_effect=OSError(28, "No space left on device"))
    with pytest.raises(TransferFailed, match="t cannot be written: No space left on device. Make room"):
        unpack(write_tar(TREE), tmp_path / "t", tree=True)
    assert names(tmp_path) == ["x.tar.gz"]


def raw(tmp_path: Path, *blocks: bytes) -> Path:
    tree = tarfile.TarInfo("d")
    tree.type = DIR
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(tree.tobuf() + b"".join(blocks), 1))
    return tmp_path / "x.tar.gz"


def pax(name: str, **headers: str) -> bytes:
    member = tarfile.TarInfo(name)
    member.pax_headers = headers
    return member.tobuf(tarfile.PAX_FORMAT)


def negative(kind: bytes) -> bytes:
    member = tarfile.TarInfo("d/x")
    member.type, member.size = kind, -1024
    return member.tobuf(tarfile.GNU_FORMAT)


GNU = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "d/s"}


@pytest.mark.parametrize(
    "blocks",
    [
        [negative(FILE), bytes(4096)],
        [negative(tarfile.XHDTYPE), bytes(64 * 1024 * 1024)],
        [negative(tarfile.GNUTYPE_LONGNAME), bytes(64 * 1024 * 1024)],
        [pax("d/s", **GNU), b"99\n" + bytes(509)],
        [pax("d/s", **GNU), b"9999999\n0\n" * 6_000_000],
        [pax("d/s", size="-512"), bytes(4096)],
        [pax("d/s", size="99"), b"x"],
        [b"\xff" * 1024],
        [],
    ],
    ids=range(9),
)
def test_headers_that_make_no_sense(tmp_path: Path, blocks: list[bytes]) -> None:
    """They neither fill the memory nor lead back to what was read."""
    archive = raw(tmp_path, *blocks)
    tracemalloc.start()
    try:
        with pytest.raises(TransferFailed, match="cannot be unpacked"):
            unpack(archive, tmp_path / "t", tree=True)
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert names(tmp_path) == ["x.tar.gz"]


def test_a_sparse_file_counts_as_large_as_it_becomes(tmp_path: Path) -> None:
    holes = pax("d/s", **GNU, **{"GNU.sparse.realsize": str(2**40)})
    with pytest.raises(FileTooLarge, match="max_unpacked_size"):
        unpack(raw(tmp_path, holes, b"0\n" + bytes(510)), tmp_path / "t", tree=True, limits=UnpackLimits(size=2**39))
    assert names(tmp_path) == ["x.tar.gz"]


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.999])
def test_cut_anywhere(tmp_path: Path, write_tar, kept: float) -> None:
    archive = write_tar(TREE, *((f"d/{number}", FILE, os.urandom(2000)) for number in range(20)))
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(TransferFailed, match="cannot be unpacked"):
        unpack(archive, tmp_path / "t", tree=True)
    assert names(tmp_path) == ["x.tar.gz"]


def test_cut_between_two_members(tmp_path: Path) -> None:
    """Without its end it may be cut, although all that is there makes sense."""
    with pytest.raises(TransferFailed, match="its end is missing"):
        unpack(raw(tmp_path), tmp_path / "t", tree=True)


def test_directories_that_are_only_implied_count(tmp_path: Path, write_tar) -> None:
    archive = write_tar(TREE, *((f"d/{number}/" + "a/" * 100 + "f", FILE, b"") for number in range(3)))
    with pytest.raises(FileTooLarge, match="more than 305 files"):
        unpack(archive, tmp_path / "t", tree=True, limits=UnpackLimits(files=305))
    assert unpack(archive, tmp_path / "t", tree=True, limits=UnpackLimits(files=307)) == 0
