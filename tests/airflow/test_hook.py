"""The hook alone, as a TaskFlow function uses it."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from airflow.sdk._shared.secrets_masker import _secrets_masker
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_provider_firecrest.exceptions import from_event, task_error, to_event
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from firecrest_core import JobSpec, errors
from firecrest_core.jobs.job import Job
from firecrest_core.result import JobResult
from firecrest_core.states import JobState

TWINS = [
    "submit_job",
    "get_job",
    "wait_for_job",
    "cancel_job",
    "upload",
    "download",
    "list_files",
    "make_directory",
    "read_text",
    "tail",
    "list_systems",
]


def test_a_job_from_begin_to_end(connected, workdir, tmp_path) -> None:
    hook = FirecRESTHook()
    (tmp_path / "in.txt").write_text("7\n")
    hook.upload(tmp_path / "in.txt", f"{workdir}/")
    job = hook.submit_job(script="#!/bin/bash\ncat in.txt > out.txt\n", working_dir=str(workdir), name="copy")
    assert isinstance(job, Job)
    result = hook.wait_for_job(job, poll_interval=0.2)
    assert isinstance(result, JobResult)
    assert (result.state, result.name) == (JobState.COMPLETED, "copy")
    assert hook.get_job(job.job_id).state is JobState.COMPLETED
    assert hook.get_job(job).state is JobState.COMPLETED
    assert hook.wait_for_job(job.job_id, poll_interval=0.2).succeeded
    assert {file.name for file in hook.list_files(str(workdir))} >= {"in.txt", "out.txt"}
    assert hook.download(f"{workdir}/out.txt", tmp_path / "out.txt").size == 2
    hook.cancel_job(job)
    assert [system.name for system in hook.list_systems()] == [connected.system]


async def test_the_same_in_an_asynchronous_task(connected, workdir, tmp_path) -> None:
    hook = FirecRESTHook()
    (tmp_path / "in.txt").write_text("7\n")
    await hook.aupload(tmp_path / "in.txt", f"{workdir}/")
    jobs = await asyncio.gather(
        *(hook.asubmit_job(JobSpec(command=f"cat in.txt > {n}", working_dir=str(workdir))) for n in range(3))
    )
    results = await asyncio.gather(*(hook.await_for_job(job, poll_interval=0.2) for job in jobs))
    assert all(result.succeeded for result in results)
    assert (await hook.aget_job(jobs[0].job_id)).state is JobState.COMPLETED
    assert {file.name for file in await hook.alist_files(str(workdir))} >= {"0", "1", "2"}
    assert (await hook.adownload(f"{workdir}/2", tmp_path / "2")).size == 2
    await hook.acancel_job(jobs[0])
    assert len(await hook.alist_systems()) == 1


async def test_synchronous_calls_work_inside_a_running_loop(connected) -> None:
    assert FirecRESTHook().list_systems()


@pytest.mark.parametrize("name", TWINS)
def test_twins_have_the_same_parameters(name: str) -> None:
    one, other = getattr(FirecRESTHook, name), getattr(FirecRESTHook, f"a{name}")
    assert inspect.signature(one) == inspect.signature(other)
    assert inspect.iscoroutinefunction(other)


def test_ids_and_names_as_people_write_them(connected, workdir) -> None:
    hook = FirecRESTHook()
    job = hook.submit_job(command="true", working_dir=str(workdir), system="LOCAL")
    assert job.system == "local"
    result = hook.wait_for_job(f" {job.job_id}.pbs01 ", system="Local", poll_interval=0.2)
    assert (result.job_id, result.state) == (job.job_id, JobState.COMPLETED)
    assert hook.get_job(int(job.job_id)).state is JobState.COMPLETED
    hook.cancel_job(f"{job.job_id} ")
    for wrong in (None, "None", "", f"{job.job_id}_3"):
        for call in (hook.get_job, hook.wait_for_job, hook.cancel_job):
            with pytest.raises(errors.InvalidJobId, match=r"^job_id: "):
                call(wrong)


def test_a_small_text_file(connected, workdir) -> None:
    (workdir / "a.txt").write_text("Ångström\r\n")
    (workdir / "empty.txt").touch()
    hook = FirecRESTHook()
    assert hook.read_text(f"{workdir}/a.txt") == "Ångström\r\n"
    assert hook.read_text(f"{workdir}/empty.txt", system=connected.system) == ""
    assert asyncio.run(hook.aread_text(f"{workdir}/a.txt")) == "Ångström\r\n"


def test_what_is_no_small_text_file(connected, workdir) -> None:
    (workdir / "latin.txt").write_bytes("Ångström".encode("latin-1"))
    (workdir / "large.txt").write_bytes(b"x" * 100_000)
    hook = FirecRESTHook()
    for path, kind, words in (
        ("latin.txt", errors.RemotePathRefused, "is no text in UTF-8 (its byte 0 is 0xc5). Download it instead"),
        ("large.txt", errors.FileTooLarge, "large.txt"),
        ("missing.txt", errors.RemotePathNotFound, "missing.txt"),
    ):
        with pytest.raises(kind) as caught:
            hook.read_text(f"{workdir}/{path}")
        assert words in str(caught.value)
        assert isinstance(caught.value, AirflowFailException)


def test_a_directory(connected, workdir) -> None:
    for _ in range(2):
        assert FirecRESTHook().make_directory(f"{workdir}/a/b") == f"{workdir}/a/b"
    assert (workdir / "a" / "b").is_dir()


def test_a_command_in_the_place_of_a_job(connected, workdir) -> None:
    with pytest.raises(errors.InvalidJobSpec, match="not a text. A command goes into command=, a script into script="):
        FirecRESTHook().submit_job("echo hi", working_dir=str(workdir))


def test_the_end_of_a_text_file(connected, workdir) -> None:
    (workdir / "log").write_text("one\ntwo\nthree\n")
    (workdir / "bar").write_bytes(b"x" * 100_000)
    hook = FirecRESTHook()
    assert hook.tail(f"{workdir}/log", lines=2) == "two\nthree\n"
    assert asyncio.run(hook.atail(f"~/{workdir.name}/log", system=connected.system)) == "one\ntwo\nthree\n"
    with pytest.raises(errors.FileTooLarge, match=r"The last lines of .*/bar on .* are too large .* download it\."):
        hook.tail(f"{workdir}/bar")
    with pytest.raises(errors.RemotePathNotFound, match="missing"):
        hook.tail(f"{workdir}/missing")


def test_fields_change_a_job(connected, workdir) -> None:
    hook = FirecRESTHook()
    base = JobSpec(command="true", working_dir="/elsewhere", nodes=1)
    job = hook.submit_job(base, working_dir=str(workdir), name="changed")
    assert (job.working_dir, job.name) == (str(workdir), "changed")


def test_a_failed_job(connected, workdir) -> None:
    hook = FirecRESTHook()
    job = hook.submit_job(command="echo no; exit 4", working_dir=str(workdir))
    with pytest.raises(errors.JobFailed, match="exit code 4") as caught:
        hook.wait_for_job(job, poll_interval=0.2)
    assert isinstance(caught.value, AirflowException)
    assert hook.wait_for_job(job, check=False, poll_interval=0.2).exit_code == 4


def test_a_limit_leaves_the_job_alone(connected, workdir) -> None:
    hook = FirecRESTHook()
    job = hook.submit_job(command="sleep 60", working_dir=str(workdir))
    with pytest.raises(errors.WaitTimedOut):
        hook.wait_for_job(job, timeout=0.3, poll_interval=0.2)
    assert hook.get_job(job.job_id).state is JobState.RUNNING
    hook.cancel_job(job)


def test_errors_are_of_two_families(connected) -> None:
    with pytest.raises(errors.RemotePathRefused) as caught:
        FirecRESTHook().list_files("/nowhere")
    assert isinstance(caught.value, AirflowFailException)


async def test_errors_of_the_twins_too(connected) -> None:
    with pytest.raises(errors.RemotePathRefused) as caught:
        await FirecRESTHook().alist_files("/nowhere")
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, errors.FirecRESTError)
        and not issubclass(kind, errors.JobFailed | errors.InvalidJobSpec)
    ],
)
def test_every_error_ends_a_task_in_the_right_way(kind: type[errors.FirecRESTError]) -> None:
    error = task_error(kind("what, where, what to do"))
    assert isinstance(error, kind)
    assert isinstance(error, AirflowFailException) is kind.user_error
    assert str(error) == "what, where, what to do"
    again = from_event(to_event(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_what_an_error_carries_is_kept() -> None:
    result = JobResult(job_id="1", system="s", state=JobState.NODE_FAIL)
    assert task_error(errors.JobNodeFailure(result, "last line")).result is result
    assert task_error(errors.RateLimited("slow", retry_after=3.0)).retry_after == 3.0
    assert task_error(errors.InvalidJobSpec("nodes", "no")).field == "nodes"


def test_secret_and_token_are_masked(connected, monkeypatch) -> None:
    from firecrest_core.api.auth import TokenProvider

    tokens = []
    token = TokenProvider.token

    async def recorded(self):
        found = await token(self)
        tokens.append(found.get_secret_value())
        return found

    monkeypatch.setattr(TokenProvider, "token", recorded)
    FirecRESTHook().list_systems()
    asyncio.run(FirecRESTHook().alist_systems())
    masker = _secrets_masker()
    assert len(set(tokens)) == 2
    for secret in (connected.client_secret, *tokens):
        assert masker.redact(f"so {secret} it is") == "so *** it is"
