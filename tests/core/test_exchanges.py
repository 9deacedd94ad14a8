"""Every recorded exchange, played back through the client: each answer is read, each refusal is the right error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from firecrest_core import errors
from firecrest_core.client import FirecRESTClient
from firecrest_core.jobspec import SubmitRequest
from firecrest_core.models import FileInfo, JobInfo
from firecrest_core.states import JobState

EX = "/users/fireuser/wd/ex"
NONE = "/users/fireuser/wd/none"

Call = Callable[[FirecRESTClient], Awaitable[Any]]


def request(**fields: Any) -> SubmitRequest:
    return SubmitRequest(**{"working_directory": "/users/fireuser/wd", **fields})


def posted(client: FirecRESTClient, endpoint: str, body: dict[str, Any]) -> Awaitable[Any]:
    return client._post_request(endpoint, json_data=body)


def directory(files: list[FileInfo]) -> bool:
    return files[0].name == "ex" and files[0].is_directory and files[1].size == 18


def completed(rows: list[JobInfo]) -> bool:
    return [row.state for row in rows] == [JobState.COMPLETED] and rows[0].elapsed == 2


GOOD: dict[str, tuple[Call, Callable[[Any], bool]]] = {
    "status_systems": (lambda c: c.get_systems(), lambda s: s[0].max_ops_file_size == 5242880 and s[0].healthy),
    "status_nodes": (lambda c: c.nodes("rig"), lambda n: n[0]["name"] == "nid001"),
    "status_reservations": (lambda c: c.reservations("rig"), lambda r: r == []),
    "status_partitions": (lambda c: c.partitions("rig"), lambda p: len(p) == 5),
    "status_userinfo": (lambda c: c.get_userinfo("rig"), lambda u: u.name == "fireuser" and u.accounts == ("test",)),
    "liveness": (lambda c: c._get_request("/status/liveness/"), lambda r: "rig" in r.json()["healthcheckRuns"]),
    "mkdir": (lambda c: c.make_directory("rig", EX), lambda none: none is None),
    "mkdir2": (lambda c: c.make_directory("rig", f"{EX}2"), lambda none: none is None),
    "upload_small": (lambda c: c.put_small("rig", EX, "a.txt", b"x" * 18), lambda none: none is None),
    "ls": (lambda c: c.ls("rig", EX), lambda f: f[0].is_file and f[0].size == 18 and f[0].user == "fireuser"),
    "ls_recursive_hidden": (lambda c: c.ls("rig", EX, hidden=True, recursive=True), lambda f: f[0].user == "1001"),
    "ls_extracted": (lambda c: c.ls("rig", f"{EX}2", recursive=True), directory),
    "stat": (lambda c: c.file_size("rig", f"{EX}/a.txt"), lambda size: size == 18),
    "checksum": (lambda c: c.sha256("rig", f"{EX}/a.txt"), lambda s: s.startswith("66663af9") and len(s) == 64),
    "file": (lambda c: c.file_type("rig", f"{EX}/a.txt"), lambda t: t == "ASCII text"),
    "head_lines": (lambda c: c.head("rig", f"{EX}/a.txt", num_lines=2), lambda h: h["content"] == "line1\nline2\n"),
    "head_bytes": (lambda c: c.head("rig", f"{EX}/a.txt", num_bytes=4), lambda h: h["content"] == "line"),
    "tail_lines": (lambda c: c.tail_text("rig", f"{EX}/a.txt", lines=1), lambda t: t == "line3\n"),
    "tail_bytes": (lambda c: c.tail_text("rig", f"{EX}/a.txt", num_bytes=6), lambda t: t == "line3\n"),
    "tail_skip_beginning_bytes": (
        lambda c: c.tail("rig", f"{EX}/a.txt", num_bytes=7, exclude_beginning=True),
        lambda t: t["content"] == "\nline3\n",
    ),
    "view": (lambda c: c.view("rig", f"{EX}/a.txt"), lambda text: text == "line1\nline2\nline3\n"),
    "view_offset": (lambda c: c.view("rig", f"{EX}/a.txt"), lambda text: text == "line2"),
    "download_small": (lambda c: c.get_small("rig", f"{EX}/a.txt"), lambda b: b == b"line1\nline2\nline3\n"),
    "chmod": (lambda c: c.chmod("rig", f"{EX}/a.txt", "600"), lambda f: f["permissions"] == "rw-------"),
    "symlink": (
        lambda c: c.symlink("rig", f"{EX}/a.txt", f"{EX}/l.txt"),
        lambda answer: answer["output"]["linkTarget"] == f"{EX}/a.txt",
    ),
    "compress": (lambda c: c.compress("rig", EX, f"{EX}.tar.gz"), lambda none: none is None),
    "extract": (lambda c: c.extract("rig", f"{EX}.tar.gz", f"{EX}2"), lambda none: none is None),
    "submit": (lambda c: c.submit_job("rig", request(script="#!/bin/bash\n")), lambda job: job == "57"),
    "submit_comma_env": (lambda c: c.submit_job("rig", request(script="#!/bin/bash\n")), lambda job: job == "58"),
    "submit_long": (lambda c: c.submit_job("rig", request(script="#!/bin/bash\n")), lambda job: job == "59"),
    "jobs_by_name_at_once": (
        lambda c: c.get_jobs("rig", name="exch-unique-1"),
        lambda rows: rows[0].state is JobState.PENDING and rows[0].exit_code is None,
    ),
    "jobs_by_name": (lambda c: c.get_jobs("rig", name="exch-unique-1"), lambda rows: rows == []),
    "jobs_by_name_none": (lambda c: c.get_jobs("rig", name="no-such-name"), lambda rows: rows == []),
    "jobs_time_window": (lambda c: c.get_jobs("rig", time_window="1h"), lambda rows: rows == []),
    "job": (lambda c: c.get_job("rig", "57"), completed),
    "attach": (lambda c: c.attach_to_job("rig", "59", "echo hi"), lambda answer: answer == {}),
    "cancel": (lambda c: c.cancel("rig", "59"), lambda was_alive: was_alive is True),
    # scancel's complaint about a job that is over is no failure: the wish is met.
    "cancel_twice": (lambda c: c.cancel("rig", "59"), lambda was_alive: was_alive is False),
    "cancel_finished": (lambda c: c.cancel("rig", "57"), lambda was_alive: was_alive is False),
    "cancel_missing": (lambda c: c.cancel("rig", "999999"), lambda was_alive: was_alive is False),
    "transfer_upload_s3": (
        lambda c: c.start_upload("rig", f"{EX}/up.bin", 10),
        lambda t: t.job.job_id == "60" and len(t.part_urls) == 1 and t.max_part_size == 1 << 30,
    ),
    "transfer_download_s3": (lambda c: c.start_download("rig", f"{EX}/a.txt"), lambda t: t.job.job_id == "61"),
    "transfer_mv": (lambda c: c.start_transfer("rig", "mv", {"path": "a"}), lambda job: job.job_id == "62"),
    "transfer_cp": (lambda c: c.start_transfer("rig", "cp", {"path": "a"}), lambda job: job.job_id == "63"),
    "transfer_compress": (
        lambda c: c.start_transfer("rig", "compress", {"path": "a"}),
        lambda job: job.error_log.startswith("/users/fireuser/.f7t_file_handling_job_error_"),
    ),
    "transfer_rm": (
        lambda c: c._delete_request("/filesystem/rig/transfer/rm", params={"path": f"{EX}2"}),
        lambda answer: answer.json()["transferJob"]["jobId"] == "65",
    ),
    "rm": (lambda c: c.remove("rig", f"{EX}.tar.gz"), lambda none: none is None),
}

BAD: dict[str, tuple[Call, type[errors.FirecRESTError], str]] = {
    "status_systems_no_token": (lambda c: c.get_systems(), errors.AuthenticationFailed, "Not authenticated"),
    "status_systems_bad_token": (lambda c: c.get_systems(), errors.AuthenticationFailed, "Access token is invalid"),
    "status_unknown_system": (lambda c: c.nodes("nope"), errors.SystemNotFound, "System not found"),
    "mkdir_exists": (lambda c: c.make_directory("rig", EX, parents=False), errors.RemotePathExists, "File exists"),
    "mkdir_denied": (lambda c: c.make_directory("rig", "/restricted/x"), errors.RemotePathRefused, "/restricted/x"),
    "mkdir_no_parent": (
        lambda c: c.make_directory("rig", "/users/fireuser/wd/no/such", parents=False),
        errors.RemotePathNotFound,
        "/users/fireuser/wd/no/such",
    ),
    # Refused before it is sent: the server's own answer is a shell's syntax error.
    "upload_odd_name": (lambda c: c.put_small("rig", EX, "a b&c'd.txt", b""), errors.InvalidFileName, "quote"),
    "upload_denied": (lambda c: c.put_small("rig", "/restricted", "a.txt", b"x"), errors.RemotePathRefused, "/restr"),
    "upload_no_dir": (lambda c: c.put_small("rig", NONE, "a.txt", b"x"), errors.RemotePathNotFound, f"{NONE}/a.txt"),
    "upload_too_big": (lambda c: c.put_small("rig", EX, "big.bin", b"x"), errors.FileTooLarge, "too large"),
    "ls_missing": (lambda c: c.ls("rig", NONE), errors.RemotePathNotFound, NONE),
    "ls_denied": (lambda c: c.ls("rig", "/restricted"), errors.RemotePathRefused, "/restricted"),
    "stat_missing": (lambda c: c.file_size("rig", NONE), errors.RemotePathNotFound, NONE),
    "view_missing": (lambda c: c.view("rig", NONE), errors.RemotePathNotFound, NONE),
    "download_missing": (lambda c: c.get_small("rig", NONE), errors.RemotePathNotFound, NONE),
    "download_dir": (lambda c: c.get_small("rig", EX), errors.RemotePathRefused, "Is a directory"),
    "jobs_bad_window": (lambda c: c.get_jobs("rig", time_window="2h"), errors.RequestRejected, "time_window"),
    "job_missing": (lambda c: c.get_job("rig", "999999"), errors.JobNotFound, "Job not found"),
    "job_bad_id": (lambda c: c.get_job("rig", "12_3"), errors.RequestRejected, "job_id"),
    "job_metadata_missing": (lambda c: c.get_job_metadata("rig", "999999"), errors.JobNotFound, "Job not found"),
    "submit_script_path_missing": (
        lambda c: c.submit_job("rig", request(script_path="/users/fireuser/wd/none.sh")),
        errors.SubmissionRejected,
        "Unable to open file /users/fireuser/wd/none.sh",
    ),
    # 408 does not mean that nothing was submitted.
    "submit_no_script": (lambda c: c.submit_job("rig", request(script="")), errors.SubmissionUnknown, "lost"),
    "submit_no_workdir": (lambda c: c.submit_job("rig", request(script="#!")), errors.SubmissionRejected, "job"),
    "transfer_upload_wrong_method": (
        lambda c: c.start_upload("rig", f"{EX}/up.bin", 10),
        errors.RequestRejected,
        "transfer method is not available",
    ),
    "transfer_download_missing": (
        lambda c: c.start_download("rig", f"{EX}/none"),
        errors.RemotePathNotFound,
        f"{EX}/none",
    ),
    "rm_missing": (lambda c: c.remove("rig", NONE), errors.RemotePathNotFound, NONE),
    "rm_root": (lambda c: c.remove("rig", "/restricted/x"), errors.RemotePathRefused, "/restricted/x"),
}

WITH_CONTEXT = {"job_metadata"}  # it asks for the scheduler's kind, too: see test_metadata


def test_every_recording_is_played(exchanges: dict[str, Any]) -> None:
    assert GOOD.keys() | BAD.keys() | WITH_CONTEXT == exchanges.keys()


@pytest.mark.parametrize("name", GOOD)
async def test_good(name: str, client: FirecRESTClient, play: Callable[..., None]) -> None:
    call, holds = GOOD[name]
    play(name)
    answer = await call(client)
    assert holds(answer), answer


@pytest.mark.parametrize("name", BAD)
async def test_bad(name: str, client: FirecRESTClient, play: Callable[..., None]) -> None:
    call, error, words = BAD[name]
    play(name, times=4)
    with pytest.raises(error) as raised:
        await call(client)
    assert words in str(raised.value)
    assert "token-" not in str(raised.value)
    assert raised.value.__cause__ is None


async def test_metadata(client: FirecRESTClient, play: Callable[..., None]) -> None:
    play("job_metadata", "status_systems")
    metadata = await client.get_job_metadata("rig", "57")
    assert metadata.stdout == metadata.stderr == "/users/fireuser/wd/slurm-57.out"
    assert metadata.script.startswith("#!/bin/bash")


async def test_presigned_urls_are_not_shown(client: FirecRESTClient, play: Callable[..., None]) -> None:
    play("transfer_upload_s3", "transfer_download_s3")
    for ticket in (await client.start_upload("rig", "/f", 10), await client.start_download("rig", "/f")):
        assert "X-Amz" not in f"{ticket!r} {ticket}"


async def test_user_errors_are_sent_once(
    client: FirecRESTClient, play: Callable[..., None], httpserver: HTTPServer
) -> None:
    play("ls_missing", "ls_missing")
    with pytest.raises(errors.RemotePathNotFound):
        await client.ls("rig", NONE)
    assert len([r for r, _ in httpserver.log if r.path.startswith("/filesystem")]) == 1
