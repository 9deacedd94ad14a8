"""Downloads from an embedded FirecREST whose limits are small."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from firecrest_core import FirecRESTClient, errors
from firecrest_core.result import JobResult
from firecrest_core.states import JobState
from firecrest_core.transfer import (
    PendingTransfer,
    Transferred,
    begin_download,
    download,
    finish_download,
    jobs,
    limits,
    store,
)
from firecrest_core.transfer.partial import hash_file

LIMIT = 3 * ((64 * 1024 - 1) // 4)
STAGED = 5 * LIMIT + 7


def file(path: Path, size: int = 10) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def hidden(*directories: Path) -> list[str]:
    return [entry.name for directory in directories for entry in directory.glob(".f*")]


@pytest.mark.parametrize("size", [0, 1, LIMIT, LIMIT + 1, STAGED])
async def test_sizes(system, there, tmp_path, size: int) -> None:
    source = file(there / "data.bin", size)
    done = await download(system, str(source), f"{tmp_path}/")
    assert done == Transferred(
        local=str(tmp_path / "data.bin"), remote=str(source), size=size, sha256=hash_file(source)
    )
    assert (tmp_path / "data.bin").read_bytes() == source.read_bytes()
    assert hidden(tmp_path, there, there.parent) == []


async def test_the_limit_is_the_servers(system, there) -> None:
    await system.download_small(str(file(there / "f", LIMIT)))
    with pytest.raises(errors.FileTooLarge):
        await system.download_small(str(file(there / "f", LIMIT + 1)))


@pytest.mark.parametrize("size", [10, STAGED])
@pytest.mark.parametrize("name", ["a b.txt", "ångström.dat", "a&b<c>.txt", 'a"b.txt', "$HOME;`id`.txt", "(a)*.txt"])
async def test_odd_names(system, there, tmp_path, name: str, size: int) -> None:
    source = file(there / name, size)
    await download(system, str(source), tmp_path)
    assert (tmp_path / name).read_bytes() == source.read_bytes()
    assert hidden(tmp_path, there, there.parent) == []


async def test_a_quote(system, there, tmp_path) -> None:
    with pytest.raises(errors.InvalidFileName, match="quote"):
        await download(system, f"{there}/it's", tmp_path)


async def test_targets(system, there, tmp_path) -> None:
    source = str(file(there / "f"))
    for target, place in (("new", "new"), ("", "f"), ("a/b/", "a/b/f"), ("c/d", "c/d")):
        done = await download(system, source, f"{tmp_path}/{target}")
        assert done.local == str(tmp_path / place)
        assert (tmp_path / place).is_file()


async def test_what_does_not_exist(system, there, tmp_path) -> None:
    with pytest.raises(errors.RemotePathNotFound, match="none: no such file or directory"):
        await download(system, f"{there}/none", tmp_path / "new" / "f")
    assert list(tmp_path.iterdir()) == []


async def test_neither_file_nor_directory(system, there, tmp_path) -> None:
    os.mkfifo(there / "pipe")
    with pytest.raises(errors.RemotePathRefused, match="neither"):
        await download(system, f"{there}/pipe", tmp_path)


async def test_what_a_link_points_to(system, there, tmp_path) -> None:
    """The real server's job takes a link's length for the file's, and cuts the file."""
    source = file(there / "real", STAGED)
    (there / "link").symlink_to(source)
    done = await download(system, f"{there}/link", f"{tmp_path}/")
    assert (done.size, done.sha256) == (STAGED, hash_file(source))
    assert (tmp_path / "link").read_bytes() == source.read_bytes()
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("size", [10, STAGED])
@pytest.mark.parametrize("name", ["tree", "a & b"])
async def test_a_directory(system, there, tmp_path, size: int, name: str) -> None:
    tree = there / name
    (tree / "sub" / name).mkdir(parents=True)
    file(tree / "sub" / "it's", size)
    (tree / "empty").touch()
    done = await download(system, f"{tree}/", f"{tmp_path}/")
    assert (done.local, done.size, done.sha256) == (str(tmp_path / name), size, None)
    assert (tmp_path / name / "sub" / "it's").read_bytes() == (tree / "sub" / "it's").read_bytes()
    assert (tmp_path / name / "sub" / name).is_dir()
    assert (tmp_path / name / "empty").is_file()
    assert hidden(tmp_path, there, there.parent) == []


@pytest.mark.parametrize("size", [10, STAGED])
async def test_a_directory_larger_than_the_limit(system, there, tmp_path, size: int) -> None:
    (there / "tree").mkdir()
    file(there / "tree" / "f", size)
    with pytest.raises(errors.FileTooLarge, match="max_unpacked_size"):
        await download(system, f"{there}/tree", f"{tmp_path}/", max_unpacked_size=size - 1)
    pending = None
    with pytest.raises(errors.FileTooLarge, match="max_unpacked_files"):
        pending = await begin_download(system, f"{there}/tree", f"{tmp_path}/", max_unpacked_files=1)
        assert isinstance(pending, PendingTransfer)
        stored = PendingTransfer.from_dict(json.loads(json.dumps(pending.to_dict())))
        await finish_download(system, stored)
    assert (pending is not None) is (size == STAGED)
    assert list(tmp_path.iterdir()) == []
    assert hidden(there, there.parent) == []
    await download(system, f"{there}/tree", f"{tmp_path}/", max_unpacked_size=size, max_unpacked_files=2)


async def test_packed_in_a_job_when_it_takes_longer(system, there, tmp_path, mocker) -> None:
    mocker.patch.object(system, "compress", side_effect=errors.RequestTimedOut("5 s are over"))
    (there / "tree").mkdir()
    source = file(there / "tree" / "f")
    await download(system, f"{there}/tree", f"{tmp_path}/")
    assert (tmp_path / "tree" / "f").read_bytes() == source.read_bytes()
    assert hidden(there, there.parent) == []


async def test_packed_elsewhere_when_there_is_no_writing_beside(system, there, tmp_path, mocker) -> None:
    compress = system.compress

    async def refuse_here(source, archive, **options) -> None:
        if archive.startswith(str(there)):
            raise errors.RemotePathRefused("Permission denied")
        await compress(source, archive, **options)

    mocker.patch.object(system, "compress", refuse_here)
    (there / "tree").mkdir()
    file(there / "tree" / "f")
    await download(system, f"{there}/tree", f"{tmp_path}/")
    assert (tmp_path / "tree" / "f").is_file()
    assert hidden(there, there.parent) == []


@pytest.mark.parametrize("size", [10, STAGED])
async def test_a_wrong_checksum(system, there, tmp_path, mocker, size: int) -> None:
    (tmp_path / "f").write_bytes(b"what was there before")
    mocker.patch.object(system, "sha256", return_value="0" * 64)
    with pytest.raises(errors.TransferFailed, match="SHA-256 is 000"):
        await download(system, str(file(there / "f", size)), tmp_path)
    assert (tmp_path / "f").read_bytes() == b"what was there before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


async def test_a_cut_body(system, there, tmp_path, mocker) -> None:
    mocker.patch.object(system, "download_small", return_value=b"cut")
    with pytest.raises(errors.TransferFailed, match="10 bytes, 3 were received"):
        await download(system, str(file(there / "f")), tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_cut_on_the_way_to_the_store(system, there, tmp_path, mocker) -> None:
    source = file(there / "f", STAGED)
    start = system.start_download

    async def cut(*args, **options):
        os.truncate(source, STAGED - 5)
        return await start(*args, **options)

    mocker.patch.object(system, "start_download", cut)
    with pytest.raises(errors.TransferFailed, match="staging store has"):
        await download(system, str(source), tmp_path)
    assert not (tmp_path / "f").exists()


async def test_continued_after_a_break(system, there, tmp_path, monkeypatch) -> None:
    source = file(there / "f", STAGED)
    ask, asked = store.Store._ask, []

    async def broken(self, method, url, **request):
        asked.append(request["headers"]["Range"])
        if len(asked) > 6:
            raise errors.ServerUnreachable("the line is down")
        return await ask(self, method, url, **request)

    monkeypatch.setattr(store.Store, "_ask", broken)
    with pytest.raises(errors.ServerUnreachable):
        await download(system, str(source), tmp_path)
    assert not (tmp_path / "f").exists()

    async def counted(self, method, url, **request):
        again.append(request["headers"]["Range"])
        return await ask(self, method, url, **request)

    again: list[str] = []
    monkeypatch.setattr(store.Store, "_ask", counted)
    await download(system, str(source), tmp_path)
    assert (tmp_path / "f").read_bytes() == source.read_bytes()
    count = len(limits.cut(STAGED, limits.part_size(STAGED)))
    assert count - 6 <= len(again) < count
    assert not set(again) & set(asked[:2])
    assert hidden(tmp_path) == []


async def test_begun_anew_when_the_source_changed(system, there, tmp_path, mocker) -> None:
    source = file(there / "f", STAGED)
    mocker.patch.object(system, "sha256", side_effect=errors.ServerUnreachable("the line is down"))
    with pytest.raises(errors.ServerUnreachable):
        await download(system, str(source), tmp_path)
    mocker.stopall()
    file(source, STAGED)
    os.utime(source, (1, 1))
    await download(system, str(source), tmp_path)
    assert (tmp_path / "f").read_bytes() == source.read_bytes()


async def test_a_failed_transfer_job(system, there, tmp_path, mocker) -> None:
    failed = JobResult(job_id="7", system=system, state=JobState.FAILED, exit_code=34, stderr=str(there / "err"))
    (there / "err").write_text("file_not_found\n")
    mocker.patch.object(jobs.JobWatcher, "wait", return_value=failed)
    with pytest.raises(errors.TransferFailed, match=r"(?s)Job 7 .*exit code 34.*Its last lines:\nfile_not_found"):
        await download(system, str(file(there / "f", STAGED)), tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_job_that_the_scheduler_forgot(system, there, tmp_path, mocker) -> None:
    source = file(there / "f", STAGED)
    pending = await begin_download(system, str(source), tmp_path)
    assert isinstance(pending, PendingTransfer)
    await jobs.ended(system, pending.job)
    mocker.patch.object(jobs.JobWatcher, "wait", side_effect=errors.JobNotFound("job not found"))
    await finish_download(system, pending)
    assert (tmp_path / "f").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("method", [None, "streamer", "wormhole"])
async def test_no_staging_store(system, there, tmp_path, mocker, method) -> None:
    info = (await system.info()).model_copy(update={"transfer_method": method})
    mocker.patch.object(system, "info", return_value=info)
    with pytest.raises(errors.FileTooLarge, match=r"245,\d+ bytes"):
        await download(system, str(file(there / "f", STAGED)), tmp_path)
    (there / "tree").mkdir()
    file(there / "tree" / "f", STAGED)
    with pytest.raises(errors.FileTooLarge, match="tree"):
        await download(system, f"{there}/tree", tmp_path)
    assert hidden(there) == []


async def test_in_two_steps(connection, system, there, tmp_path) -> None:
    source = file(there / "f", STAGED)
    begun = await begin_download(system, str(source), f"{tmp_path}/new/")
    assert isinstance(begun, PendingTransfer)
    text = json.dumps(begun.to_dict())
    assert "X-Amz" not in text
    assert "http" not in text.replace(connection.url, "")
    async with FirecRESTClient(connection) as another:
        done = await finish_download(another.system(), PendingTransfer.from_dict(json.loads(text)))
    assert done.local == str(tmp_path / "new" / "f")
    assert (tmp_path / "new" / "f").read_bytes() == source.read_bytes()


async def test_into_a_store(system, there, tmp_path) -> None:
    upath = pytest.importorskip("upath")
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").mkdirs("/bucket", exist_ok=True)
    small, large = file(there / "small"), file(there / "large", STAGED)
    bucket = upath.UPath("memory://bucket/results")
    for source in (small, large):
        await download(system, str(source), bucket / source.name)
        assert (bucket / source.name).read_bytes() == source.read_bytes()
    pending = await begin_download(system, str(large), bucket / "two")
    assert isinstance(pending, PendingTransfer)
    with pytest.raises(errors.LocalFileNotFound, match="path object"):
        await finish_download(system, pending)
    assert (await finish_download(system, pending, bucket / "two")).size == STAGED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 10, STAGED])
async def test_a_directory_where_the_file_should_go(system, there, tmp_path, size: int) -> None:
    (tmp_path / "f" / "mine").mkdir(parents=True)
    with pytest.raises(errors.LocalFileRefused, match="f is a directory, and the download has a file.*Remove it first"):
        await download(system, str(file(there / "f", size)), f"{tmp_path}/")
    assert (tmp_path / "f" / "mine").is_dir()


async def test_a_file_where_the_directory_should_go(system, there, tmp_path) -> None:
    (there / "tree").mkdir()
    (tmp_path / "tree").write_text("mine")
    with pytest.raises(errors.LocalFileRefused, match="tree is a file, and the download has a directory"):
        await download(system, f"{there}/tree", f"{tmp_path}/")
    assert (tmp_path / "tree").read_text() == "mine"
    assert hidden(tmp_path, there) == []


@pytest.mark.parametrize("size", [10, STAGED])
async def test_a_link_of_the_users_own_is_not_followed(system, there, tmp_path, size: int) -> None:
    """As with ``cp -r``. The server is an honest one."""
    (there / "tree" / "sub").mkdir(parents=True)
    file(there / "tree" / "sub" / "f", size)
    (tmp_path / "outside").mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "sub").symlink_to(tmp_path / "outside")
    pending = None
    with pytest.raises(errors.LocalFileRefused, match="tree/sub is a link, and the download has a directory"):
        pending = await begin_download(system, f"{there}/tree", f"{tmp_path}/")
        await finish_download(system, pending)
    assert list((tmp_path / "outside").iterdir()) == []
    assert hidden(tmp_path, there) == []


@pytest.mark.parametrize("name", ["..", ".", "sub/..", "../"])
async def test_a_source_without_a_name(system, there, tmp_path, name: str) -> None:
    """It would go to the directory above the target."""
    (tmp_path / "target").mkdir()
    with pytest.raises(errors.InvalidFileName, match="ends in dots"):
        await download(system, f"{there}/{name}", f"{tmp_path}/target/")
    assert [entry.name for entry in tmp_path.rglob("*")] == ["target"]


@pytest.mark.parametrize("size", [10, STAGED])
async def test_no_room_on_the_local_disk(system, there, tmp_path, mocker, size: int) -> None:
    source = file(there / "f", size)
    mocker.patch("os.pwrite", side_effect=OSError(28, "No space left on device"))
    with pytest.raises(errors.TransferFailed, match="f cannot be written: No space left on device. Make room"):
        pending = await begin_download(system, str(source), f"{tmp_path}/")
        await finish_download(system, pending)
    assert not (tmp_path / "f").exists()
    mocker.stopall()
    await download(system, str(source), f"{tmp_path}/")
    assert (tmp_path / "f").read_bytes() == source.read_bytes()
    assert hidden(tmp_path, there) == []


@pytest.mark.parametrize("size", [0, 10, STAGED])
async def test_the_mode_of_a_new_file(system, there, tmp_path, size: int) -> None:
    before = os.umask(0o027)
    try:
        await download(system, str(file(there / "f", size)), f"{tmp_path}/")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640
