"""A task whose job waits in the queues of two systems at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core.claims import gate
from firecrest_core.errors import InvalidJobSpec, JobFailed
from firecrest_core.race import winner
from firecrest_local import LocalFirecREST, Settings

pytestmark = pytest.mark.usefixtures("pushed")
both_ways = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])

# The partition debug never starts a job of more than half an hour.
NEVER = {"partition": "debug", "time_limit": 60}
COMMAND = 'echo $SLURM_JOB_ID >> jobs; cp in.txt out.txt; echo \'{"step": 1, "loss": 0.5}\' > metrics.jsonl'


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
def make(connected: Any, workdir: Path, there: Path, tmp_path: Path) -> Callable[..., Callable[[], Any]]:
    def make(**more: Any) -> Callable[[], Any]:
        (tmp_path / "in.txt").write_text("sent to each place")
        arguments = {
            "command": COMMAND,
            "poll_interval": 0.2,
            "make_working_dir": True,
            "inputs": {str(tmp_path / "in.txt"): "in.txt"},
            "alternatives": [NEVER, {"system": "eiger", "working_dir": str(there)}],
        }
        return lambda: FirecRESTSubmitOperator(task_id="job", working_dir=str(workdir), **arguments | more)

    return make


@both_ways
def test_it_runs_where_it_begins_first(
    make, workdir, there, tmp_path, run_task, ti, pushed, task_log, deferrable
) -> None:
    run = run_task(make(deferrable=deferrable, outputs={"out.txt": str(tmp_path / "out.txt")}, metrics="metrics.jsonl"))
    (ran,) = (there / "jobs").read_text().split()
    assert not (workdir / "jobs").exists()
    assert (run.result["state"], run.result["job_id"], run.result["system"]) == ("COMPLETED", ran, "eiger")
    assert run.result["working_directory"] == str(there)
    assert (tmp_path / "out.txt").read_text() == "sent to each place"
    assert (workdir / "in.txt").read_text() == "sent to each place"
    assert (pushed if deferrable else ti.pushed)["job_id"] == ran
    shown = ti.pushed["firecrest_job"]
    assert (shown["job_id"], shown["system"], shown["working_dir"]) == (ran, "eiger", str(there))
    assert "loss" in shown["metrics"]
    assert f"Job {ran} (dag.task) on eiger was the first to begin, so it runs" in task_log()


@both_ways
def test_a_failure_there_has_its_output(make, there, run_task, deferrable) -> None:
    with pytest.raises(JobFailed, match=r"(?s)eiger.*no such thing"):
        run_task(make(deferrable=deferrable, command="echo no such thing >&2; exit 3"))


@both_ways
def test_where_nobody_has_let_it_begin_it_is_submitted_again(
    make, there, run_task, task_log, monkeypatch, deferrable
) -> None:
    waits: list[int] = []

    async def late(system: Any, job: Any, **how: Any) -> Any:
        if not waits:  # as if the engine had been away
            waits.append(1)
            from firecrest_core.watch.watcher import JobWatcher

            (one,) = job.elsewhere
            await JobWatcher.shared(system.connection, "eiger", type(system.client)).wait(one, poll_interval=0.2)
            monkeypatch.setattr(gate, "LONGEST_WAIT", 600)
        return await winner(system, job, **how)

    monkeypatch.setattr("firecrest_core.race.winner", late)
    monkeypatch.setattr(gate, "LONGEST_WAIT", 1)
    elsewhere = [{"system": "eiger", "working_dir": str(there)}]
    run = run_task(make(deferrable=deferrable, alternatives=elsewhere))
    assert (run.result["state"], run.result["job_id"]) == ("COMPLETED", (there / "jobs").read_text().strip())
    assert "so the alternatives are submitted again" in task_log()


def test_a_hook_waits_where_it_begins_first(make, connected, workdir, there) -> None:
    there.mkdir()
    hook = FirecRESTHook()
    job = hook.submit_job(
        command="echo $SLURM_JOB_ID >> jobs",
        working_dir=str(workdir),
        alternatives=[NEVER, {"system": "eiger", "working_dir": str(there)}],
    )
    result = hook.wait_for_job(job, poll_interval=0.2)
    assert (result.system, result.job_id) == ("eiger", (there / "jobs").read_text().strip())


def test_a_function_runs_on_one_system() -> None:
    with DAG("d", schedule=None), pytest.raises(InvalidJobSpec, match="alternatives: the function's result"):

        @task.firecrest(working_dir="/wd", alternatives=[{"system": "eiger", "working_dir": "/run"}])
        def function() -> None: ...

        function()


@pytest.mark.parametrize(
    "place",
    [
        {"system": "{{ params.system }}", "working_dir": "/run"},
        {"system": "eiger", "working_dir": "{{ params.directory }}"},
    ],
)
def test_what_is_not_known_yet_is_not_refused(place: dict[str, str]) -> None:
    with DAG("d", schedule=None):
        FirecRESTSubmitOperator(task_id="job", command="true", working_dir="/wd", alternatives=[place])
