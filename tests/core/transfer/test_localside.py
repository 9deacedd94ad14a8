"""Our side: local paths and paths of object stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from firecrest_core.errors import LocalFileNotFound
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
    found = await localside.destination(f"{tmp_path}/{target}", "f")
    assert found == tmp_path / place
    assert (tmp_path / place).parent.is_dir()


async def test_missing_source(tmp_path: Path) -> None:
    with pytest.raises(LocalFileNotFound, match="none"):
        await localside.source(tmp_path / "none")


async def test_a_tree_in_a_store(tmp_path: Path) -> None:
    (tmp_path / "one" / "sub").mkdir(parents=True)
    (tmp_path / "one" / "sub" / "f").write_text("f")
    async with localside.on_disk(Stored(tmp_path / "one")) as here:
        assert (here / "sub" / "f").read_text() == "f"
        async with localside.staged_target(Stored(tmp_path / "two")) as staged_target:
            here.rename(staged_target)
    assert (tmp_path / "two" / "sub" / "f").read_text() == "f"


async def test_nothing_half_written_in_a_store(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="store is full"):
        async with localside.staged_target(Stored(tmp_path / "f", fail=True)) as here:
            here.write_bytes(b"content")
    assert not (tmp_path / "f").exists()
