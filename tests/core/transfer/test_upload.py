"""Uploads to an embedded FirecREST whose limits are small."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import pytest

from firecrest_core import FirecRESTClient, errors
from firecrest_core.result import JobResult
from firecrest_core.states import JobState
from firecrest_core.transfer import (
    PendingTransfer,
    Transferred,
    archive,
    begin_upload,
    finish_upload,
    jobs,
    remote,
    store,
    upload,
)
from firecrest_core.transfer import upload as package_upload
from firecrest_core.transfer.partial import hash_file

LIMIT = 64 * 1024
STAGED = LIMIT + 1


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def file(path: Path, size: int = 10) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def left_behind(there: Path) -> set[str]:
    """What lies beside the files that tests made."""
    hidden = {entry.name for entry in there.rglob(".firecrest-*")}
    return hidden | {entry.name for entry in there.parent.glob(".f*")}


@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 5 * LIMIT + 7])
async def test_sizes(system, there, here, size: int) -> None:
    source = file(here / "data.bin", size)
    done = await upload(system, source, f"{there}/")
    assert done == Transferred(local=str(source), remote=f"{there}/data.bin", size=size, sha256=hash_file(source))
    assert (there / "data.bin").read_bytes() == source.read_bytes()
    assert left_behind(there) == set()


@pytest.mark.parametrize("size", [0, 10, STAGED])
@pytest.mark.parametrize("name", ["a b.txt", "ångström.dat", "a&b<c>.txt", 'a"b.txt', "$HOME;`id`.txt", "-x", "a\\b"])
async def test_odd_names(system, there, here, name: str, size: int) -> None:
    source = file(here / name, size)
    await upload(system, source, f"{there}/")
    assert [entry.name for entry in there.iterdir()] == [name]
    assert (there / name).read_bytes() == source.read_bytes()


async def test_an_odd_directory(system, there, here) -> None:
    (there / "a & b").mkdir()
    await upload(system, file(here / "big", STAGED), f"{there}/a & b/")
    assert (there / "a & b" / "big").read_bytes() == (here / "big").read_bytes()
    assert left_behind(there) == set()


@pytest.mark.parametrize("size", [10, STAGED])
async def test_a_quote_is_refused_before_anything_is_sent(system, there, here, size: int) -> None:
    with pytest.raises(errors.InvalidFileName, match="quote"):
        await upload(system, file(here / "it's", size), f"{there}/")
    assert list(there.iterdir()) == []
    await upload(system, here / "it's", f"{there}/its")
    assert (there / "its").exists()


async def test_targets(system, there, here) -> None:
    source = file(here / "f")
    assert (await upload(system, source, f"{there}")).remote == f"{there}/f"
    assert (await upload(system, source, f"{there}/")).remote == f"{there}/f"
    assert (await upload(system, source, f"{there}/g")).remote == f"{there}/g"
    (there / "link").symlink_to(there)
    assert (await upload(system, source, f"{there}/link")).remote == f"{there}/link/f"


@pytest.mark.parametrize("size", [0, 10, STAGED])
@pytest.mark.parametrize("name", ["run.sh", "a b.sh"])
@pytest.mark.parametrize(("mode", "there_mode"), [(0o755, 0o755), (0o4770, 0o750), (0o100, 0o100), (0o644, 0o644)])
async def test_what_may_be_executed(system, there, here, mocker, name: str, size: int, mode: int, there_mode) -> None:
    source = file(here / name, size)
    source.chmod(mode | 0o400)
    chmod = mocker.spy(type(system), "chmod")
    await upload(system, source, f"{there}/")
    assert (there / name).stat().st_mode & 0o7777 == there_mode | 0o400
    assert chmod.call_count <= (mode & 0o100 > 0)


async def test_a_system_that_refuses_to_change_modes(system, there, here, mocker, caplog) -> None:
    source = file(here / "run.sh")
    source.chmod(0o755)
    mocker.patch.object(type(system), "chmod", side_effect=errors.RemotePathRefused("Operation not permitted."))
    assert (await upload(system, source, f"{there}/")).size == 10
    assert f"{there}/run.sh on {system} may not be executable: Operation not permitted." in caplog.text


async def test_replaces_what_is_there(system, there, here) -> None:
    for size in (100, 10, STAGED, 0):
        source = file(here / "f", size)
        await upload(system, source, f"{there}/f")
        assert (there / "f").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("size", [0, 10, STAGED])
@pytest.mark.parametrize("target", ["none/", "none/f", "none/deeper/f"])
async def test_a_missing_directory(system, there, here, target: str, size: int) -> None:
    with pytest.raises(errors.RemotePathNotFound, match=r"none(/deeper)?: no such directory.*Create it first"):
        await upload(system, file(here / "f", size), f"{there}/{target}")
    assert list(there.iterdir()) == []


async def test_what_is_in_the_way(system, there, here) -> None:
    (there / "f").mkdir()
    with pytest.raises(errors.RemotePathRefused, match="is a directory"):
        await upload(system, file(here / "f"), f"{there}/")
    (there / "file").write_text("x")
    for target in ("file/x", "file/"):
        with pytest.raises(errors.RemotePathRefused, match="Not a directory"):
            await upload(system, here / "f", f"{there}/{target}")
    (here / "tree").mkdir()
    with pytest.raises(errors.RemotePathRefused, match="is a file"):
        await upload(system, here / "tree", f"{there}/file")


async def test_a_missing_source_costs_no_request(connection, tmp_path) -> None:
    async with FirecRESTClient(connection) as client:
        with pytest.raises(errors.LocalFileNotFound, match="none"):
            await upload(client.system(), tmp_path / "none", "/x")
        assert "session" not in vars(client.requests)


async def test_a_directory(system, there, here) -> None:
    (here / "tree" / "sub").mkdir(parents=True)
    file(here / "tree" / "big & it's", 3 * LIMIT)
    (here / "tree" / "sub" / "empty").touch()
    (there / "tree" / "sub").mkdir(parents=True)
    (there / "tree" / "mine").write_text("mine")
    done = await upload(system, here / "tree", f"{there}/")
    assert (done.remote, done.size, done.sha256) == (f"{there}/tree", 3 * LIMIT, None)
    assert (there / "tree" / "big & it's").read_bytes() == (here / "tree" / "big & it's").read_bytes()
    assert (there / "tree" / "sub" / "empty").is_file()
    assert (there / "tree" / "mine").read_text() == "mine"
    assert left_behind(there) == set()


async def test_a_directory_under_a_new_name(system, there, here) -> None:
    (here / "tree").mkdir()
    file(here / "tree" / "f")
    assert (await upload(system, here / "tree", f"{there}/new")).remote == f"{there}/new"
    assert (there / "new" / "f").is_file()


async def test_extracted_in_a_job_when_it_takes_longer(system, there, here, mocker) -> None:
    mocker.patch.object(system, "extract", side_effect=errors.RequestTimedOut("5 s are over"))
    (here / "tree").mkdir()
    file(here / "tree" / "f")
    await upload(system, here / "tree", f"{there}/")
    assert (there / "tree" / "f").read_bytes() == (here / "tree" / "f").read_bytes()
    (there / "a&b").mkdir()
    with pytest.raises(errors.InvalidFileName, match="Rename the directory"):
        await upload(system, here / "tree", f"{there}/a&b/")
    assert left_behind(there) == set()


async def test_the_archive_is_removed_after_a_failure(system, there, here, mocker) -> None:
    mocker.patch.object(archive, "extract", side_effect=errors.RemotePathRefused("no"))
    (here / "tree").mkdir()
    with pytest.raises(errors.RemotePathRefused):
        await upload(system, here / "tree", f"{there}/")
    assert left_behind(there) == set()


@pytest.mark.parametrize("size", [10, STAGED])
async def test_a_wrong_checksum(system, there, here, mocker, size: int) -> None:
    mocker.patch.object(system, "sha256", return_value="0" * 64)
    with pytest.raises(errors.TransferFailed, match="its SHA-256 is 000"):
        await upload(system, file(here / "f", size), f"{there}/")
    assert list(there.iterdir()) == []


async def test_cut_on_the_way_from_the_store(system, there, here, mocker) -> None:
    ended = jobs.ended

    async def cut(*args) -> None:
        await ended(*args)
        os.truncate(there / "f", 1000)

    mocker.patch.object(jobs, "ended", cut)
    with pytest.raises(errors.TransferFailed, match=r"65,537 bytes were sent, 1,000 bytes are there"):
        await upload(system, file(here / "f", STAGED), f"{there}/")
    assert list(there.iterdir()) == []


async def test_a_file_that_shows_late(system, there, here, mocker, monkeypatch) -> None:
    monkeypatch.setattr(remote, "VISIBLE_WITHIN", 10.0)
    stat, seen = remote.stat, []

    async def stale(system, path, **options):
        seen.append(path)
        return None if len(seen) in (3, 4) else await stat(system, path, **options)

    mocker.patch.object(remote, "stat", stale)
    await upload(system, file(here / "f", STAGED), f"{there}/f")
    assert (there / "f").exists()


async def test_too_large_to_hash(system, there, here, mocker, caplog) -> None:
    caplog.set_level(logging.INFO)
    mocker.patch.object(system, "sha256", side_effect=errors.RequestTimedOut("5 s are over"))
    done = await upload(system, file(here / "f", STAGED), f"{there}/")
    assert done.sha256 == hash_file(here / "f")
    assert "compared by size alone (65,537 bytes)" in caplog.text


async def test_a_failed_transfer_job(system, there, here, mocker) -> None:
    send = store.Store.send

    async def obstruct(*args) -> None:
        (there / "f").mkdir()
        (there / "f" / "mine").touch()
        await send(*args)

    mocker.patch.object(store.Store, "send", obstruct)
    mocker.patch.object(jobs.JobWatcher, "wait", return_value=_failed(system.name, there))
    with pytest.raises(errors.TransferFailed, match=r"(?s)FAILED, exit code 3.*Its last lines:\nf is a directory"):
        await upload(system, file(here / "f", STAGED), f"{there}/")
    assert (there / "f" / "mine").exists()


async def test_a_job_that_never_ran_leaves_the_old_file(system, there, here, mocker) -> None:
    (there / "f").write_bytes(b"what was there before")
    mocker.patch.object(store.Store, "send")  # so that the embedded server's job waits
    mocker.patch.object(jobs.JobWatcher, "wait", return_value=_failed(system.name, there))
    pending = await begin_upload(system, file(here / "f", STAGED), f"{there}/")
    with pytest.raises(errors.TransferFailed):
        await finish_upload(system, pending)
    await system.cancel_job(pending.job.job_id)
    assert (there / "f").read_bytes() == b"what was there before"


def _failed(system: str, there: Path) -> JobResult:
    (there / "err").write_text("f is a directory\n")
    return JobResult(job_id="7", system=system, state=JobState.FAILED, exit_code=3, stderr=str(there / "err"))


async def test_from_a_store(system, there) -> None:
    upath = pytest.importorskip("upath")
    bucket = upath.UPath("memory://bucket/inputs")
    bucket.mkdir(parents=True, exist_ok=True)
    for name, size in (("small", 10), ("large", STAGED)):
        (bucket / name).write_bytes(os.urandom(size))
        await upload(system, bucket / name, f"{there}/")
        assert (there / name).read_bytes() == (bucket / name).read_bytes()
    await upload(system, bucket, f"{there}/")
    assert (there / "inputs" / "large").read_bytes() == (bucket / "large").read_bytes()


async def test_the_job_is_cancelled_when_nothing_will_come(system, there, here, mocker) -> None:
    mocker.patch.object(store.Store, "send", side_effect=errors.ServerUnreachable("no store"))
    cancelled = mocker.spy(system, "cancel_job")
    with pytest.raises(errors.ServerUnreachable):
        await upload(system, file(here / "f", STAGED), f"{there}/")
    assert cancelled.await_count == 1
    (job,) = [cancelled.await_args.args[0]]
    assert (await system.get_job(job))[0].state.value == "CANCELLED"


async def test_a_file_that_changes_meanwhile(system, there, here, mocker) -> None:
    source = file(here / "f", STAGED)
    send = store.Store.send

    async def slow(self, *args) -> None:
        await send(self, *args)
        os.utime(source, (1, 1))

    mocker.patch.object(store.Store, "send", slow)
    with pytest.raises(errors.TransferFailed, match="changed while it was sent"):
        await upload(system, source, f"{there}/")


@pytest.mark.parametrize("cut", [True, False])
async def test_a_direct_write_that_broke_off(system, there, here, mocker, cut: bool) -> None:
    (there / "f").write_bytes(b"what was there before")

    async def break_off(directory, name, content) -> None:
        if cut:
            Path(directory, name).write_bytes(content[:3])
            os.utime(Path(directory, name), (1, 1))
        raise errors.RequestTimedOut("no answer")

    mocker.patch.object(system, "upload_small", break_off)
    with pytest.raises(errors.RequestTimedOut):
        await upload(system, file(here / "f"), f"{there}/")
    assert (there / "f").exists() is not cut  # half a file goes, a file that was not touched stays


@pytest.mark.parametrize(("method", "said"), [(None, "no staging store"), ("streamer", "streamer")])
async def test_no_staging_store(system, there, here, mocker, method, said: str) -> None:
    info = (await system.info()).model_copy(update={"transfer_method": method})
    mocker.patch.object(system, "info", return_value=info)
    with pytest.raises(errors.FileTooLarge, match=f"65,537 bytes.*65,536 directly.*{said}"):
        await upload(system, file(here / "f", STAGED), f"{there}/")


async def test_a_site_that_hides_its_part_size(system, there, here, mocker) -> None:
    info = (await system.info()).model_copy(update={"max_part_size": None})
    mocker.patch.object(system, "info", return_value=info)
    await upload(system, file(here / "f", 3 * LIMIT + 5), f"{there}/")
    assert (there / "f").read_bytes() == (here / "f").read_bytes()


async def test_in_two_steps(connection, system, there, here) -> None:
    begun = await begin_upload(system, file(here / "f", STAGED), f"{there}/")
    assert isinstance(begun, PendingTransfer)
    text = json.dumps(begun.to_dict())
    assert "X-Amz" not in text
    (here / "f").unlink()  # another worker does not have it
    async with FirecRESTClient(connection) as another:
        done = await finish_upload(another.system(), PendingTransfer.from_dict(json.loads(text)))
    assert done.remote == f"{there}/f"
    assert isinstance(await begin_upload(system, file(here / "g"), f"{there}/"), Transferred)


def test_exported() -> None:
    assert package_upload is upload


@pytest.mark.parametrize("kind", ["dangling", "fifo", "device"])
async def test_an_odd_source_costs_no_request(connection, tmp_path, kind: str) -> None:
    source = {"dangling": tmp_path / "link", "fifo": tmp_path / "pipe", "device": Path("/dev/null")}[kind]
    (tmp_path / "link").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe")
    async with FirecRESTClient(connection) as client:
        with pytest.raises(errors.UserError, match="which does not exist|is a FIFO|is a device"):
            await upload(client.system(), source, "/x")
        assert "session" not in vars(client.requests)


async def test_a_fifo_in_a_directory(system, there, here) -> None:
    (here / "tree").mkdir()
    os.mkfifo(here / "tree" / "pipe")
    with pytest.raises(errors.LocalFileRefused, match="tree/pipe is a FIFO"):
        await upload(system, here / "tree", f"{there}/")
    assert list(there.iterdir()) == []


@pytest.mark.parametrize("size", [0, 10, STAGED])
async def test_a_source_that_vanishes(system, there, here, mocker, size: int) -> None:
    source, info = file(here / "f", size), system.info
    asked = []

    async def remove() -> None:
        if not asked:
            asked.append(source.unlink())
        return await info()

    mocker.patch.object(system, "info", remove)
    with pytest.raises(errors.LocalFileNotFound, match="f cannot be read: No such file"):
        await upload(system, source, f"{there}/")
    assert list(there.iterdir()) == []


@pytest.mark.parametrize("call", ["read_file", "hash_file"])
async def test_a_source_that_vanishes_when_it_is_sent(system, there, here, monkeypatch, call: str) -> None:
    source = file(here / "f", 10 if call == "read_file" else STAGED)
    module = sys.modules["firecrest_core.transfer.upload"]
    usual = getattr(module, call)

    def remove(path: Path, *rest):
        source.unlink(missing_ok=True)
        return usual(path, *rest)

    monkeypatch.setattr(module, call, remove)
    with pytest.raises(errors.LocalFileNotFound, match="f cannot be read: No such file"):
        await upload(system, source, f"{there}/")
    assert list(there.iterdir()) == []
