"""Tasks and blocks name paths on the system by `~`, by variables, and relative to the credentials' base directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect import flow

from firecrest_core.errors import InvalidFileName, InvalidJobSpec, RemotePathNotFound
from prefect_firecrest import FirecRESTCredentials, download_files, list_files, run_job, upload_files


@pytest.fixture
def near(credentials: FirecRESTCredentials, workdir: Path) -> Path:
    """The test's directory, which is the base directory of the credentials, and `$DATA`."""
    credentials.base_dir = f"~/{workdir.name}"
    credentials.paths = {"DATA": f"$HOME/{workdir.name}"}
    return workdir


def test_a_flow_with_relative_paths(near, credentials, make, tmp_path) -> None:
    (tmp_path / "in.txt").write_text("in")
    job = make("cat in.txt > out.txt", working_dir="runs/a", stdout="$DATA/log")

    @flow
    def both() -> None:
        result = run_job(
            job,
            local_files=[str(tmp_path / "in.txt")],
            remote_files=["out.txt", "$DATA/log"],
            local_directory=str(tmp_path / "fetched"),
        )
        assert result.stdout == f"{near}/log"

    both()
    assert (near / "runs" / "a" / "out.txt").read_text() == "in"
    assert sorted(path.name for path in (tmp_path / "fetched").iterdir()) == ["log", "out.txt"]


def test_a_run_of_the_flow_that_is_repeated_finds_its_job(near, make) -> None:
    job = make(f"echo x >> {near}/ran", working_dir="run")
    tries = []

    @flow(retries=1)
    def repeated() -> None:
        job.trigger().wait_for_completion()
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("try again")

    repeated()
    assert (len(tries), (near / "ran").read_text()) == (2, "x\n")


def test_files(near, credentials, tmp_path) -> None:
    (tmp_path / "a.txt").write_text("a")
    [up] = upload_files(credentials, str(tmp_path / "a.txt"), "new")
    assert up.remote == f"{near}/new/a.txt"
    assert [file.name for file in list_files(credentials, "$DATA/new")] == ["a.txt"]
    [down] = download_files(credentials, f"~/{near.name}/new/a.txt", tmp_path / "there")
    assert Path(down.local).read_text() == "a"


def test_a_missing_directory_is_made_only_where_it_cannot_be_misspelt(credentials, workdir, make) -> None:
    missing = f"~/{workdir.name}/mistyped"
    with pytest.raises(RemotePathNotFound, match="make_working_dir=True"):
        make("true", working_dir=missing).trigger()
    run = make("true", working_dir=missing, make_working_dir=True).trigger()
    assert run.job.working_dir == str(workdir / "mistyped")
    with pytest.raises(InvalidJobSpec, match=r"^working_dir: x is relative"):
        make("true", working_dir="x").trigger()


def test_a_relative_path_without_a_base_directory(credentials) -> None:
    with pytest.raises(InvalidFileName, match="runs is relative, and the credentials block has no base directory"):
        list_files(credentials, "runs")
