"""A job that waits in the queues of two systems at once, in Prefect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from pydantic import ValidationError

from firecrest_core.errors import InvalidJobSpec, JobFailed
from firecrest_local import LocalFirecREST, Settings
from prefect_firecrest import FirecRESTJob, firecrest, run_job

# The partition debug never starts a job of more than half an hour.
NEVER = {"partition": "debug", "time_limit": 60}
COMMAND = "echo $SLURM_JOB_ID >> jobs; cp in.txt out.txt"


@pytest.fixture(scope="module")
def f7t(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    settings = Settings(
        root=tmp_path_factory.mktemp("site"), system="daint", other_systems=("eiger",), cores=8, accounting_lag=0.2
    )
    with LocalFirecREST(settings) as server:
        yield server


@pytest.fixture
def there(f7t: LocalFirecREST, workdir: Path) -> Path:
    """The directory on the other system, which does not exist yet."""
    return f7t.home_on("eiger") / workdir.name


@pytest.fixture
def job(make: Callable[..., FirecRESTJob], there: Path) -> Callable[..., FirecRESTJob]:
    def job(command: str = COMMAND) -> FirecRESTJob:
        alternatives = [NEVER, {"system": "eiger", "working_dir": str(there)}]
        return make(command, alternatives=alternatives, make_working_dir=True)

    return job


def test_it_runs_where_it_begins_first(job: Any, workdir: Path, there: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("sent to each place")
    result = run_job(job(), inputs={str(tmp_path / "in.txt"): "in.txt"}, outputs={"out.txt": str(tmp_path / "out.txt")})
    assert (result.succeeded, result.system, result.working_dir) == (True, "eiger", str(there))
    assert [result.job_id] == (there / "jobs").read_text().split()
    assert not (workdir / "jobs").exists()
    assert (tmp_path / "out.txt").read_text() == "sent to each place"


def test_a_run_follows_its_job(job: Any, there: Path) -> None:
    run = job("echo $SLURM_JOB_ID >> jobs; cat jobs").trigger()
    assert run.system == "daint"
    run.wait_for_completion()
    assert (run.system, run.job_id, run.log_tail().strip()) == ("eiger", *(there / "jobs").read_text().split() * 2)
    assert run.resume().job_id == run.job_id


def test_a_failure_there_has_its_output(job: Any) -> None:
    with pytest.raises(JobFailed, match=r"(?s)eiger.*no such thing"):
        run_job(job("echo no such thing >&2; exit 3"))


def test_cancelling_reaches_both(job: Any, there: Path, f7t: LocalFirecREST) -> None:
    run = job("echo $SLURM_JOB_ID >> jobs").trigger()
    run.cancel()
    assert run.fetch_result().state == "CANCELLED"
    assert not (there / "jobs").exists()


def test_files_of_one_system_are_refused(job: Any) -> None:
    @flow
    def fetches() -> None:
        run_job(job(), remote_files=["out.txt"])

    with pytest.raises(InvalidJobSpec, match="give inputs and outputs"):
        fetches()


def test_a_function_runs_on_one_system() -> None:
    with pytest.raises(InvalidJobSpec, match="alternatives: the function's result"):

        @task
        @firecrest(working_dir="/wd", alternatives=[{"system": "eiger", "working_dir": "/run"}])
        def function() -> None: ...


def test_the_jobs_own_place_is_refused(make: Callable[..., FirecRESTJob], workdir: Path) -> None:
    own = {"system": "daint", "working_dir": str(workdir)}
    with pytest.raises(ValidationError, match="is where the job runs anyway"):
        make("true", system="daint", alternatives=[own])
