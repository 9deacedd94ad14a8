"""Every recorded exchange, played back through the client: each answer is read, each refusal is the right error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from firecrest.v2 import AsyncFirecrest
from pytest_httpserver import HTTPServer

from firecrest_core import errors
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.api.models import FileInfo, JobInfo
from firecrest_core.api.nodes import NodeLoad
from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.states import JobState

EX = "/users/fireuser/wd/ex"
NONE = "/users/fireuser/wd/none"

Call = Callable[[System], Awaitable[Any]]


def request(**fields: Any) -> SubmitRequest:
    return SubmitRequest(**{"working_directory": "/users/fireuser/wd", **fields})


def raw(system: System) -> AsyncFirecrest:
    """Return pyfirecrest itself, for recordings of endpoints that nothing of ours asks."""
    return system.client.requests.pyfirecrest


def directory(files: list[FileInfo]) -> bool:
    return files[0].name == "ex" and files[0].is_directory and files[1].size == 18


def completed(rows: list[JobInfo]) -> bool:
    return [row.state for row in rows] == [JobState.COMPLETED] and rows[0].elapsed == 2


GOOD: dict[str, tuple[Call, Callable[[Any], bool]]] = {
    "status_systems": (lambda s: s.client.list_systems(), lambda s: s[0].max_ops_file_size == 5242880 and s[0].healthy),
    "status_nodes": (lambda s: s.get_nodes(), lambda n: (n[0].name, n[0].load) == ("nid001", NodeLoad.FREE)),
    "status_reservations": (lambda s: raw(s).reservations("rig"), lambda r: r == []),
    "status_partitions": (lambda s: s.get_partitions(), lambda p: len(p) == 5 and p[0].states == ("UP",)),
    "status_userinfo": (
        lambda s: s.get_userinfo(),
        lambda u: u.name == "fireuser" and u.accounts == ("test",),
    ),
    "liveness": (
        lambda s: s.client.requests.session.get("/status/liveness/"),
        lambda r: "rig" in r.json()["healthcheckRuns"],
    ),
    "mkdir": (lambda s: s.make_directory(EX), lambda none: none is None),
    "mkdir2": (lambda s: s.make_directory(f"{EX}2"), lambda none: none is None),
    "upload_small": (lambda s: s.upload_small(EX, "a.txt", b"x" * 18), lambda none: none is None),
    "ls": (
        lambda s: s.list_files(EX),
        lambda f: f[0].is_file and f[0].size == 18 and f[0].user == "fireuser",
    ),
    "ls_recursive_hidden": (
        lambda s: s.list_files(EX, hidden=True, recursive=True),
        lambda f: f[0].user == "1001",
    ),
    "ls_extracted": (lambda s: s.list_files(f"{EX}2", recursive=True), directory),
    "stat": (lambda s: s.stat(f"{EX}/a.txt"), lambda stat: stat.size == 18),
    "checksum": (lambda s: s.sha256(f"{EX}/a.txt"), lambda s: s.startswith("66663af9") and len(s) == 64),
    "file": (lambda s: raw(s).file_type("rig", f"{EX}/a.txt"), lambda t: t == "ASCII text"),
    "head_lines": (
        lambda s: raw(s).head("rig", f"{EX}/a.txt", num_lines=2),
        lambda h: h["content"] == "line1\nline2\n",
    ),
    "head_bytes": (lambda s: raw(s).head("rig", f"{EX}/a.txt", num_bytes=4), lambda h: h["content"] == "line"),
    "tail_lines": (lambda s: s.tail(f"{EX}/a.txt", lines=1), lambda t: t == "line3\n"),
    "tail_bytes": (lambda s: s.tail(f"{EX}/a.txt", num_bytes=6), lambda t: t == "line3\n"),
    "tail_skip_beginning_bytes": (
        lambda s: s.read_from(f"{EX}/a.txt", 6),
        lambda t: t == "\nline3\n",
    ),
    "view": (lambda s: raw(s).view("rig", f"{EX}/a.txt"), lambda text: text == "line1\nline2\nline3\n"),
    "view_offset": (lambda s: raw(s).view("rig", f"{EX}/a.txt"), lambda text: text == "line2"),
    "download_small": (
        lambda s: s.download_small(f"{EX}/a.txt"),
        lambda b: b == b"line1\nline2\nline3\n",
    ),
    "chmod": (lambda s: raw(s).chmod("rig", f"{EX}/a.txt", "600"), lambda f: f["permissions"] == "rw-------"),
    "symlink": (
        lambda s: s.symlink(f"{EX}/a.txt", f"{EX}/l.txt"),
        lambda none: none is None,
    ),
    "compress": (lambda s: s.compress(EX, f"{EX}.tar.gz", dereference=False), lambda none: none is None),
    "extract": (lambda s: s.extract(f"{EX}.tar.gz", f"{EX}2"), lambda none: none is None),
    "submit": (lambda s: s.submit_job(request(script="#!/bin/bash\n")), lambda job: job == "57"),
    "submit_comma_env": (
        lambda s: s.submit_job(request(script="#!/bin/bash\n")),
        lambda job: job == "58",
    ),
    "submit_long": (lambda s: s.submit_job(request(script="#!/bin/bash\n")), lambda job: job == "59"),
    "jobs_by_name_at_once": (
        lambda s: s.get_jobs(name="exch-unique-1"),
        lambda rows: rows[0].state is JobState.PENDING and rows[0].exit_code is None,
    ),
    "jobs_by_name": (lambda s: s.get_jobs(name="exch-unique-1"), lambda rows: rows == []),
    "jobs_by_name_none": (lambda s: s.get_jobs(name="no-such-name"), lambda rows: rows == []),
    "jobs_time_window": (lambda s: s.get_jobs(time_window="1h"), lambda rows: rows == []),
    "job": (lambda s: s.get_job("57"), completed),
    "attach": (lambda s: raw(s).attach_to_job("rig", "59", "echo hi"), lambda answer: answer == {}),
    "cancel": (lambda s: s.cancel_job("59"), lambda was_alive: was_alive is True),
    # scancel's complaint about a job that is over is no failure: there is nothing left to cancel.
    "cancel_twice": (lambda s: s.cancel_job("59"), lambda was_alive: was_alive is False),
    "cancel_finished": (lambda s: s.cancel_job("57"), lambda was_alive: was_alive is False),
    "cancel_missing": (lambda s: s.cancel_job("999999"), lambda was_alive: was_alive is False),
    "transfer_upload_s3": (
        lambda s: s.start_upload(f"{EX}/up.bin", 10),
        lambda t: t.job.job_id == "60" and len(t.part_urls) == 1 and t.max_part_size == 1 << 30,
    ),
    "transfer_download_s3": (lambda s: s.start_download(f"{EX}/a.txt"), lambda t: t.job.job_id == "61"),
    "transfer_mv": (lambda s: s.start_transfer("mv", {"path": "a"}), lambda job: job.job_id == "62"),
    "transfer_cp": (lambda s: s.start_transfer("cp", {"path": "a"}), lambda job: job.job_id == "63"),
    "transfer_compress": (
        lambda s: s.start_transfer("compress", {"path": "a"}),
        lambda job: job.error_log.startswith("/users/fireuser/.f7t_file_handling_job_error_"),
    ),
    "transfer_rm": (
        lambda s: s.client.requests.session.delete("/filesystem/rig/transfer/rm", params={"path": f"{EX}2"}),
        lambda answer: answer.json()["transferJob"]["jobId"] == "65",
    ),
    "rm": (lambda s: s.remove(f"{EX}.tar.gz"), lambda none: none is None),
}

BAD: dict[str, tuple[Call, type[errors.FirecRESTError], str]] = {
    "status_systems_no_token": (lambda s: s.client.list_systems(), errors.AuthenticationFailed, "Not authenticated"),
    "status_systems_bad_token": (
        lambda s: s.client.list_systems(),
        errors.AuthenticationFailed,
        "Access token is invalid",
    ),
    "status_unknown_system": (lambda s: raw(s).nodes("nope"), errors.SystemNotFound, "System not found"),
    "mkdir_exists": (
        lambda s: s.make_directory(EX, parents=False),
        errors.RemotePathExists,
        "File exists",
    ),
    "mkdir_denied": (
        lambda s: s.make_directory("/restricted/x"),
        errors.RemotePathRefused,
        "/restricted/x",
    ),
    "mkdir_no_parent": (
        lambda s: s.make_directory("/users/fireuser/wd/no/such", parents=False),
        errors.RemotePathNotFound,
        "/users/fireuser/wd/no/such",
    ),
    # Refused before it is sent: the server's own answer is a shell's syntax error.
    "upload_odd_name": (
        lambda s: s.upload_small(EX, "a b&c'd.txt", b""),
        errors.InvalidFileName,
        "quote",
    ),
    "upload_denied": (
        lambda s: s.upload_small("/restricted", "a.txt", b"x"),
        errors.RemotePathRefused,
        "/restr",
    ),
    "upload_no_dir": (
        lambda s: s.upload_small(NONE, "a.txt", b"x"),
        errors.RemotePathNotFound,
        f"{NONE}/a.txt",
    ),
    "upload_too_big": (lambda s: s.upload_small(EX, "big.bin", b"x"), errors.FileTooLarge, "too large"),
    "ls_missing": (lambda s: s.list_files(NONE), errors.RemotePathNotFound, NONE),
    "ls_denied": (lambda s: s.list_files("/restricted"), errors.RemotePathRefused, "/restricted"),
    "stat_missing": (lambda s: s.stat(NONE), errors.RemotePathNotFound, NONE),
    "view_missing": (lambda s: raw(s).view("rig", NONE), errors.RemotePathNotFound, NONE),
    "download_missing": (lambda s: s.download_small(NONE), errors.RemotePathNotFound, NONE),
    "download_dir": (lambda s: s.download_small(EX), errors.RemotePathRefused, "Is a directory"),
    "jobs_bad_window": (lambda s: s.get_jobs(time_window="2h"), errors.RequestRejected, "time_window"),
    "job_missing": (lambda s: s.get_job("999999"), errors.JobNotFound, "Job not found"),
    "job_bad_id": (
        lambda s: s.client.requests.session.get("/compute/rig/jobs/12_3"),
        errors.RequestRejected,
        "job_id",
    ),
    "job_metadata_missing": (lambda s: s.get_job_metadata("999999"), errors.JobNotFound, "Job not found"),
    "submit_script_path_missing": (
        lambda s: s.submit_job(request(script_path="/users/fireuser/wd/none.sh")),
        errors.SubmissionRejected,
        "Unable to open file /users/fireuser/wd/none.sh",
    ),
    # 408 does not mean that nothing was submitted.
    "submit_no_script": (lambda s: s.submit_job(request(script="")), errors.SubmissionUnknown, "no answer says"),
    "submit_no_workdir": (lambda s: s.submit_job(request(script="#!")), errors.SubmissionRejected, "job"),
    "transfer_upload_wrong_method": (
        lambda s: s.start_upload(f"{EX}/up.bin", 10),
        errors.RequestRejected,
        "transfer method is not available",
    ),
    "transfer_download_missing": (
        lambda s: s.start_download(f"{EX}/none"),
        errors.RemotePathNotFound,
        f"{EX}/none",
    ),
    "rm_missing": (lambda s: s.remove(NONE), errors.RemotePathNotFound, NONE),
    "rm_root": (lambda s: s.remove("/restricted/x"), errors.RemotePathRefused, "/restricted/x"),
}

WITH_CONTEXT = {"job_metadata"}  # it asks for the scheduler's kind, too: see test_metadata


def test_every_recording_is_played(exchanges: dict[str, Any]) -> None:
    assert GOOD.keys() | BAD.keys() | WITH_CONTEXT == exchanges.keys()


@pytest.mark.parametrize("name", GOOD)
async def test_good(name: str, client: FirecRESTClient, play: Callable[..., None]) -> None:
    call, holds = GOOD[name]
    play(name)
    answer = await call(client.system())
    assert holds(answer), answer


@pytest.mark.parametrize("name", BAD)
async def test_bad(name: str, client: FirecRESTClient, play: Callable[..., None]) -> None:
    call, error, words = BAD[name]
    play(name, times=4)
    with pytest.raises(error) as raised:
        await call(client.system())
    assert words in str(raised.value)
    assert "token-" not in str(raised.value)
    assert raised.value.__cause__ is None


async def test_metadata(client: FirecRESTClient, play: Callable[..., None]) -> None:
    play("job_metadata", "status_systems")
    metadata = await client.system().get_job_metadata("57")
    assert metadata.stdout == metadata.stderr == "/users/fireuser/wd/slurm-57.out"
    assert metadata.script.startswith("#!/bin/bash")


async def test_presigned_urls_are_not_shown(client: FirecRESTClient, play: Callable[..., None]) -> None:
    play("transfer_upload_s3", "transfer_download_s3")
    for ticket in (await client.system().start_upload("/f", 10), await client.system().start_download("/f")):
        assert "X-Amz" not in f"{ticket!r} {ticket}"


async def test_user_errors_are_sent_once(
    client: FirecRESTClient, play: Callable[..., None], httpserver: HTTPServer
) -> None:
    play("ls_missing", "ls_missing")
    with pytest.raises(errors.RemotePathNotFound):
        await client.system().list_files(NONE)
    assert len([r for r, _ in httpserver.log if r.path.startswith("/filesystem")]) == 1
