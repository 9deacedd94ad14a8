"""Uploading, downloading and listing files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firecrest_core import System, errors
from firecrest_core.transfer import download, upload


def content(size: int) -> bytes:
    return os.urandom(size)


@pytest.mark.parametrize("size", [0, 1, 100_000, 6 * 1024 * 1024], ids=["empty", "byte", "small", "staged"])
async def test_upload_and_download(size: int, system: System, workdir: str, tmp_path: Path) -> None:
    source = tmp_path / f"data-{size}.bin"
    source.write_bytes(content(size))
    sent = await upload(system, source, f"{workdir}/")
    assert (sent.remote, sent.size) == (f"{workdir}/data-{size}.bin", size)
    assert (await system.stat(sent.remote)).size == size
    copy = await download(system, sent.remote, tmp_path / "copy.bin")
    assert copy.size == size
    assert (tmp_path / "copy.bin").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", ["with space.txt", "ångström.dat", "a&b<c>.txt", "-dash.txt", "semi;colon$HOME.txt"])
async def test_names(name: str, system: System, workdir: str, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(b"content\n")
    sent = await upload(system, source, f"{workdir}/")
    await download(system, sent.remote, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content\n"


async def test_a_name_with_a_quote(system: System, workdir: str, tmp_path: Path) -> None:
    (tmp_path / "it's.txt").write_bytes(b"x")
    with pytest.raises(errors.InvalidFileName, match="quote"):
        await upload(system, tmp_path / "it's.txt", f"{workdir}/")


async def test_a_directory(system: System, workdir: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(20):
        file = tree / f"d{number % 3}" / f"f{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(number))
    await upload(system, tree, f"{workdir}/tree")
    names = {entry.name for entry in await system.list_files(f"{workdir}/tree", recursive=True)}
    assert "d0/f0.txt" in names
    await download(system, f"{workdir}/tree", tmp_path / "copy")
    assert (tmp_path / "copy" / "d1" / "f19.txt").read_text() == "19"


async def test_missing_paths_are_named(system: System, workdir: str, tmp_path: Path) -> None:
    with pytest.raises(errors.LocalFileNotFound, match=r"none\.txt"):
        await upload(system, tmp_path / "none.txt", f"{workdir}/")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(errors.RemotePathNotFound, match="no-such-directory"):
        await upload(system, tmp_path / "a.txt", f"{workdir}/no-such-directory/a.txt")
    with pytest.raises(errors.RemotePathNotFound, match="no-such-file"):
        await download(system, f"{workdir}/no-such-file", tmp_path / "b.txt")
    assert not (tmp_path / "b.txt").exists()


async def test_listing(system: System, workdir: str) -> None:
    await system.make_directory(f"{workdir}/list/deep")
    await system.make_directory(f"{workdir}/list/deep")  # with parents, one that exists is no error
    await system.upload_small(f"{workdir}/list", "a.txt", b"abc")
    entries = {entry.name: entry for entry in await system.list_files(f"{workdir}/list")}
    assert entries["deep"].is_directory
    assert entries["a.txt"].is_file
    assert entries["a.txt"].size == 3
    with pytest.raises(errors.RemotePathNotFound):
        await system.remove(f"{workdir}/list/none")
    await system.remove(f"{workdir}/list/none", missing_ok=True)
    await system.remove(f"{workdir}/list")
    assert not await system.is_directory(f"{workdir}/list")


async def test_outside_the_file_systems(system: System) -> None:
    with pytest.raises(errors.RemotePathRefused, match="/no-such-root"):
        await system.list_files("/no-such-root")


async def test_user_and_system(system: System) -> None:
    assert (await system.get_userinfo()).name
    info = await system.info()
    assert info.healthy
    assert info.file_systems
