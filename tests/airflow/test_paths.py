"""Tasks name paths on the system by `~`, by variables, and relative to the connection's base directory."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_firecrest.hooks.connection import load
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import (
    FirecRESTDeleteOperator,
    FirecRESTDownloadFromJobOperator,
    FirecRESTDownloadOperator,
    FirecRESTMakeDirectoryOperator,
    FirecRESTSubmitOperator,
    FirecRESTUploadOperator,
)
from airflow_provider_firecrest.sensors import FirecRESTFileSensor
from firecrest_core.errors import InvalidFileName, InvalidJobSpec, RemotePathNotFound, RemotePathRefused

SCRIPT = "#!/bin/bash\nhostname > node.txt\n"


@pytest.fixture
def near(connected, store, stored, workdir) -> Path:
    """The test's directory, which is the base directory of the connection, and `$DATA`."""
    relative = f"~/{workdir.name}"
    store(stored | {"extra": stored["extra"] | {"base_dir": relative, "paths": {"DATA": relative}}})
    return workdir


def submit(**fields: Any) -> Any:
    return lambda: FirecRESTSubmitOperator(**{"task_id": "job", "script": SCRIPT, "poll_interval": 0.2} | fields)


def test_a_job_below_the_base_directory_makes_its_own(near, run_task, caplog) -> None:
    caplog.set_level(logging.INFO, "firecrest_core")
    result = run_task(submit(working_dir="runs/$USER", job={"stdout": "$DATA/out.txt"})).result
    assert result["working_directory"] == f"{near}/runs/{near.parent.name}"
    assert result["stdout"] == f"{near}/out.txt"
    assert Path(result["working_directory"], "node.txt").exists()
    assert f"working_dir: runs/$USER is {near}/runs/{near.parent.name} on local." in caplog.text


def test_a_job_in_the_home_directory_makes_one_if_asked(connected, workdir, run_task) -> None:
    made = workdir / "a" / "b"
    result = run_task(submit(working_dir=f"~/{workdir.name}/a/b", make_working_dir=True)).result
    assert result["working_directory"] == str(made)
    assert (made / "node.txt").exists()


def test_a_missing_directory_is_not_made_elsewhere(connected, workdir, run_task) -> None:
    with pytest.raises(RemotePathNotFound, match="is no directory on local.*make_working_dir=True"):
        run_task(submit(working_dir=f"~/{workdir.name}/mistyped"))
    assert not (workdir / "mistyped").exists()


@pytest.mark.parametrize("make", [None, True])
def test_a_directory_on_no_file_system_is_refused_with_those_that_exist(connected, run_task, make) -> None:
    with pytest.raises(RemotePathRefused, match=r"/scratch/me.*The file systems of local are: /.*/home \(users\)\."):
        run_task(submit(working_dir="/scratch/me", make_working_dir=make))


@pytest.mark.parametrize("path", ["$SCRATCH/x", "$NOPE/x", "x", "~root/x"])
def test_a_path_that_means_nothing_ends_the_task(connected, run_task, path) -> None:
    with pytest.raises(InvalidJobSpec, match=r"^working_dir: "):
        run_task(submit(working_dir=path))


def test_a_retry_goes_on_where_the_first_try_began(near, run_task, ti, store, stored, task_log) -> None:
    first = run_task(submit(working_dir="run")).result
    store(stored | {"extra": stored["extra"] | {"base_dir": f"~/{near.name}/elsewhere"}})
    ti.try_number = 2
    assert run_task(submit(working_dir="run")).result["job_id"] == first["job_id"]
    assert f"This run began on local, in {near}/run, and goes on there" in task_log()
    assert not (near / "elsewhere").exists()


def test_files_travel_between_paths_of_all_forms(near, run_task, tmp_path) -> None:
    (tmp_path / "a.txt").write_text("a")
    made = run_task(lambda: FirecRESTMakeDirectoryOperator(task_id="make", path="new/er")).result
    assert made == f"{near}/new/er"
    up = run_task(
        lambda: FirecRESTUploadOperator(task_id="up", source_path=str(tmp_path / "a.txt"), target_path="$DATA/new/")
    ).result
    assert up["remote"] == f"{near}/new/a.txt"
    run_task(lambda: FirecRESTFileSensor(task_id="wait", path="new/a.txt", poll_interval=0.1))
    [down] = run_task(
        lambda: FirecRESTDownloadOperator(task_id="down", remote_files="new/a.txt", local_path=str(tmp_path / "b.txt"))
    ).result
    assert (down["remote"], Path(down["local"]).read_text()) == (f"{near}/new/a.txt", "a")
    run_task(lambda: FirecRESTDeleteOperator(task_id="delete", path=f"~/{near.name}/new"))
    assert not (near / "new").exists()


def test_the_sensor_waits_for_a_path_that_does_not_exist_yet(near, run_task) -> None:
    run = run_task(
        lambda: FirecRESTFileSensor(task_id="wait", path="later.txt", poll_interval=0.1),
        when_deferred=lambda: (near / "later.txt").touch(),
    )
    assert [deferral.trigger.path for deferral in run.deferrals] == [f"{near}/later.txt"]


def test_files_of_a_job_are_relative_to_its_directory(near, run_task, ti, tmp_path) -> None:
    (near / "run").mkdir()
    for file in (near / "run" / "in-job.txt", near / "beside.txt"):
        file.touch()
    ti.pulled["job", None] = {"job_id": "7", "working_directory": f"{near}/run"}
    fetched = run_task(
        lambda: FirecRESTDownloadFromJobOperator(
            task_id="down",
            target_task_id="job",
            remote_files=["in-job.txt", "$DATA/beside.txt"],
            local_path=str(tmp_path),
        )
    ).result
    assert [one["remote"] for one in fetched] == [f"{near}/run/in-job.txt", f"{near}/beside.txt"]


def test_the_hook_takes_the_same_paths(near, tmp_path) -> None:
    hook = FirecRESTHook()
    job = hook.submit_job(command="echo done > done.txt", working_dir="hooked")
    hook.wait_for_job(job, poll_interval=0.2)
    assert job.working_dir == f"{near}/hooked"
    assert hook.read_text("hooked/done.txt") == "done\n"
    assert "done.txt" in [file.name for file in hook.list_files("$DATA/hooked")]
    hook.upload(str(tmp_path), f"~/{near.name}/up")
    assert (near / "up").is_dir()
    assert hook.download("hooked/done.txt", str(tmp_path / "d.txt")).remote == f"{near}/hooked/done.txt"


def test_the_hook_makes_no_directory_unasked(near) -> None:
    with pytest.raises(RemotePathNotFound):
        FirecRESTHook().submit_job(command="true", working_dir="hooked", make_working_dir=False)
    with pytest.raises(InvalidFileName, match=r"\$NOPE is not known"):
        FirecRESTHook().list_files("$NOPE")


@pytest.mark.parametrize("given", [{"PROJECT": "/project/x"}, json.dumps({"PROJECT": "/project/x"})])
def test_names_of_the_connection_may_be_given_as_text(store, stored, given) -> None:
    store(stored | {"extra": stored["extra"] | {"paths": given, "base_dir": ""}})
    connection = load("firecrest_default")
    assert (connection.paths, connection.base_dir) == ({"PROJECT": "/project/x"}, None)
