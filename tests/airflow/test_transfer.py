"""Files up and down, directly and over the staging store with a transfer job."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk import DAG, BaseOperator, ObjectStoragePath, TaskGroup
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout, TaskDeferred
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.job_records import JobRecord
from airflow_provider_firecrest.operators import (
    FirecRESTDeleteOperator,
    FirecRESTDownloadFromJobOperator,
    FirecRESTDownloadOperator,
    FirecRESTMakeDirectoryOperator,
    FirecRESTUploadOperator,
)
from airflow_provider_firecrest.operators.local_paths import open_path
from firecrest_core.api.client import System
from firecrest_core.errors import FileTooLarge

SMALL = 1000
LARGE = 200_000  # over the test server's direct limit


def content(size: int) -> bytes:
    return os.urandom(size)


def upload(source: Any, target: Any, **more: Any) -> Callable[[], FirecRESTUploadOperator]:
    return lambda: FirecRESTUploadOperator(
        task_id="up", source_path=source, target_path=str(target), poll_interval=0.2, **more
    )


def download(files: Any, target: Any, **more: Any) -> Callable[[], FirecRESTDownloadOperator]:
    return lambda: FirecRESTDownloadOperator(
        task_id="down", remote_files=files, local_path=target, poll_interval=0.2, **more
    )


def test_local_paths_from_home(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_path("~/results/") == f"{tmp_path}/results/"
    assert open_path("results/~/x") == "results/~/x"


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_upload(connected, workdir, tmp_path, run_task, size, deferrable) -> None:
    source = tmp_path / "data.bin"
    source.write_bytes(content(size))
    run = run_task(upload(str(source), workdir, deferrable=deferrable))
    assert run.result == {
        "local": str(source),
        "remote": f"{workdir}/data.bin",
        "size": size,
        "sha256": sha256(source.read_bytes()).hexdigest(),
    }
    assert (workdir / "data.bin").read_bytes() == source.read_bytes()
    assert len(run.deferrals) == (1 if deferrable and size == LARGE else 0)


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_download(connected, workdir, tmp_path, run_task, size, deferrable) -> None:
    (workdir / "data.bin").write_bytes(content(size))
    target = tmp_path / "new name.bin"
    run = run_task(download([f"{workdir}/data.bin"], str(target), deferrable=deferrable))
    (one,) = run.result
    assert (one["local"], one["size"]) == (str(target), size)
    assert target.read_bytes() == (workdir / "data.bin").read_bytes()
    assert len(run.deferrals) == (1 if deferrable and size == LARGE else 0)


def test_several_files_defer_once_and_keep_their_order(connected, workdir, tmp_path, run_task) -> None:
    sizes = [LARGE, SMALL, LARGE + 1]
    for index, size in enumerate(sizes):
        (workdir / f"{index}.bin").write_bytes(content(size))
    run = run_task(download([f"{workdir}/{index}.bin" for index in range(3)], str(tmp_path / "new" / "folder")))
    assert [one["size"] for one in run.result] == sizes
    assert [one["local"] for one in run.result] == [str(tmp_path / "new" / "folder" / f"{i}.bin") for i in range(3)]
    assert len(run.deferrals) == 1
    assert len(run.deferrals[0].trigger.jobs) == 2


def test_two_files_of_one_name_are_refused_before_the_first(connected, workdir, tmp_path, run_task) -> None:
    for directory in ("p1", "p2"):
        (workdir / directory).mkdir()
        (workdir / directory / "r.out").write_text(directory)
    sources = [f"{workdir}/p1/r.out", f"{workdir}/p2/r.out"]
    with pytest.raises(AirflowFailException, match=r"would both become r\.out"):
        run_task(download(sources, str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("limit", [{"max_unpacked_size": 999}, {"max_unpacked_files": 1}], ids=["size", "files"])
def test_a_directory_larger_than_the_limit(connected, workdir, tmp_path, run_task, size, limit) -> None:
    (workdir / "tree").mkdir()
    (workdir / "tree" / "data.bin").write_bytes(content(size))
    with pytest.raises(AirflowFailException, match=next(iter(limit))):
        run_task(download(f"{workdir}/tree", str(tmp_path / "new"), **limit))
    with pytest.raises(FileTooLarge, match=next(iter(limit))):
        FirecRESTHook().download(f"{workdir}/tree", tmp_path / "new", **limit)
    assert not (tmp_path / "new").exists()


def test_what_is_stored_while_deferred_opens_no_store(connected, workdir, tmp_path, ti, monkeypatch) -> None:
    start_download, tickets = System.start_download, []

    async def recorded(self, *args, **kwargs):
        tickets.append(await start_download(self, *args, **kwargs))
        return tickets[-1]

    monkeypatch.setattr(System, "start_download", recorded)
    (workdir / "data.bin").write_bytes(content(LARGE))
    with pytest.raises(TaskDeferred) as deferred:
        download([f"{workdir}/data.bin"], str(tmp_path))().execute({"ti": ti, "task_state_store": ti.state_store})
    kept = json.dumps([deferred.value.trigger.serialize(), deferred.value.kwargs])
    url = urlsplit(tickets[0].url.get_secret_value())
    assert url.query
    for secret in (url.query, connected.client_secret):
        assert secret not in kept


def test_one_file_into_a_directory_that_exists(connected, workdir, tmp_path, run_task) -> None:
    (workdir / "a.txt").write_text("a")
    run = run_task(download(f"{workdir}/a.txt", str(tmp_path)))
    assert run.result[0]["local"] == str(tmp_path / "a.txt")


def test_directories(connected, workdir, tmp_path, run_task) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "leaf.txt").write_text("leaf")
    run_task(upload(str(tmp_path / "tree"), workdir))
    assert (workdir / "tree" / "sub" / "leaf.txt").read_text() == "leaf"
    run_task(download(f"{workdir}/tree", str(tmp_path / "back")))
    assert (tmp_path / "back" / "sub" / "leaf.txt").read_text() == "leaf"


@pytest.fixture
def memory() -> None:
    """Give Airflow an object store."""
    attach("memory", fs=MemoryFileSystem())


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("form", [str, ObjectStoragePath], ids=["URL", "ObjectStoragePath"])
def test_object_stores(connected, workdir, run_task, memory, size, form) -> None:
    store = ObjectStoragePath(f"memory://bucket/{workdir.name.lower()}")
    (store / "in.bin").write_bytes(data := content(size))
    run_task(upload(form(f"{store}/in.bin"), workdir))
    assert (workdir / "in.bin").read_bytes() == data
    files = [f"{workdir}/in.bin", f"{workdir}/in.bin"]
    run_task(download(files[:1], form(f"{store}/out.bin")))
    assert (store / "out.bin").read_bytes() == data


def test_several_files_into_an_object_store(connected, workdir, run_task, memory) -> None:
    store = ObjectStoragePath(f"memory://bucket/{workdir.name.lower()}")
    for name in "ab":
        (workdir / name).write_text(name)
    run_task(download([f"{workdir}/a", f"{workdir}/b"], store))
    assert [(store / name).read_text() for name in "ab"] == ["a", "b"]


def test_a_store_that_airflow_does_not_know(connected, workdir, run_task) -> None:
    with pytest.raises(AirflowFailException, match=r"^nosuch://bucket/key: .*Install the Airflow provider"):
        run_task(upload("nosuch://bucket/key", workdir))


def test_from_a_job(connected, workdir, tmp_path, run_task, ti) -> None:
    (workdir / "slurm-7.out").write_text("seven")
    (workdir / "elsewhere.txt").write_text("else")
    ti.pulled["submit", None] = {"jobId": "7", "job_id": "7", "working_directory": str(workdir)}

    def make(files: list[str], target: str) -> Callable[[], Any]:
        return lambda: FirecRESTDownloadFromJobOperator(
            task_id="down", remote_files=files, local_path=target, target_task_id="submit"
        )

    run_task(make(["slurm-{_jobid_}.out"], str(tmp_path / "job-{_jobid_}.out")))
    assert (tmp_path / "job-7.out").read_text() == "seven"
    run_task(make(["slurm-{job_id}.out", f"{workdir}/elsewhere.txt"], str(tmp_path / "all")))
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["elsewhere.txt", "slurm-7.out"]


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_what_wildcards_match(connected, workdir, tmp_path, run_task, size) -> None:
    for name in ("a.out", "results/one/b.json", "results/c.json"):
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_bytes(content(size))
    for _ in range(2):  # a second run ends in the same place
        run = run_task(download([f"{workdir}/*.out", f"{workdir}/results/**/*.json"], str(tmp_path / "new")))
        assert [one["local"] for one in run.result] == [
            f"{tmp_path}/new/{at}" for at in ("a.out", "c.json", "one/b.json")
        ]
    assert (tmp_path / "new" / "one" / "b.json").read_bytes() == (workdir / "results/one/b.json").read_bytes()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.out", "c.json", "one"]


def test_a_pattern_that_matches_nothing(connected, workdir, tmp_path, run_task) -> None:
    with pytest.raises(AirflowFailException, match=r"\*\.nc: nothing on .* matches this pattern"):
        run_task(download(f"{workdir}/*.nc", str(tmp_path / "new")))


def test_from_the_job_of_the_same_index(connected, workdir, tmp_path, run_task, ti) -> None:
    (workdir / "8.out").write_text("eight")
    ti.map_index = 1
    ti.pulled["submit", 1] = {"job_id": "8", "working_directory": str(workdir)}
    run_task(
        lambda: FirecRESTDownloadFromJobOperator(
            task_id="down",
            remote_files=["{_jobid_}.out"],
            local_path=str(tmp_path / "o"),
            target_task_id="submit",
        )
    )
    assert (tmp_path / "o").read_text() == "eight"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("submit", "this DAG has no task 'submit'. Did you mean 'run.submit'?"),
        ("nothing", "this DAG has no task 'nothing'. It has down, other, run.submit."),
        ("other", "the task 'other' need not end before this one begins. Write `other >> down`."),
        ("run.submit", "the task 'run.submit' left no single job in its XCom."),
    ],
)
def test_from_a_task_that_cannot_be_meant(connected, run_task, target: str, message: str) -> None:
    def make() -> Any:
        with DAG("dag", schedule=None):
            with TaskGroup("run"):
                submit = BaseOperator(task_id="submit")
            BaseOperator(task_id="other")
            down = FirecRESTDownloadFromJobOperator(
                task_id="down", remote_files=["o"], local_path="o", target_task_id=target
            )
            submit >> down
        return down

    with pytest.raises(AirflowFailException, match=re.escape(f"target_task_id: {message}")):
        run_task(make)


def test_execution_timeout_cancels_the_transfer_job(connected, workdir, tmp_path, ti) -> None:
    (workdir / "data.bin").write_bytes(content(LARGE))
    task = download([f"{workdir}/data.bin"], str(tmp_path), execution_timeout=timedelta(seconds=30))()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({"ti": ti, "task_state_store": ti.state_store})
    trigger = deferred.value.trigger
    trigger.deadline = 0.0
    event = asyncio.run(trigger.event())
    assert event["status"] == "timeout"
    with pytest.raises(AirflowTaskTimeout, match="cancelled job"):
        task.execute_complete({"ti": ti, "task_state_store": ti.state_store}, event, **deferred.value.kwargs)
    assert list(tmp_path.iterdir()) == []


def test_a_clear_cancels_the_transfer_job_of_the_run_before(connected, workdir, tmp_path, ti) -> None:
    (workdir / "data.bin").write_bytes(content(LARGE))
    earlier = FirecRESTHook().submit_job(script="#!/bin/bash\nsleep 60\n", working_dir=str(workdir))
    context = {"ti": ti, "task_state_store": ti.state_store}
    JobRecord("firecrest_default", ti.max_tries, [earlier.to_dict()]).write(context, FirecRESTHook().connection())
    ti.max_tries += 1
    with pytest.raises(TaskDeferred) as deferred:
        download([f"{workdir}/data.bin"], str(tmp_path))().execute(context)
    assert FirecRESTHook().get_job(earlier.job_id).state.ended
    record = JobRecord.read(context)
    assert [job["job_id"] for job in record.jobs] == [job["job_id"] for job in deferred.value.trigger.jobs]


def test_directories_are_made_and_removed(connected, workdir, run_task) -> None:
    path = workdir / "a" / "b"
    make = lambda: FirecRESTMakeDirectoryOperator(task_id="m", path=str(path))  # noqa: E731
    assert run_task(make).result == str(path)
    assert path.is_dir()
    run_task(make)
    remove = lambda **more: lambda: FirecRESTDeleteOperator(task_id="d", path=str(workdir / "a"), **more)  # noqa: E731
    run_task(remove())
    assert not (workdir / "a").exists()
    run_task(remove(missing_ok=True))
    with pytest.raises(AirflowFailException, match="No such file"):
        run_task(remove())
