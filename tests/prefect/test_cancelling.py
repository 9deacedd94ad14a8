"""Cancelling flow runs of a real Prefect server: their jobs end, and those of runs that may go on do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from firecrest_core.states import JobState
from tests.prefect.real import Served, until


@pytest.fixture
def all_cancelled(states_in, workdir) -> Callable[[], bool]:
    return lambda: (states := states_in(workdir)) != [] and set(states) == {JobState.CANCELLED}


@pytest.fixture
def shows_the_end(api) -> Callable[[str, int], None]:
    """Wait until Prefect shows that so many jobs of a flow run were cancelled: in a table, by events, in the log."""

    def shows_the_end(flow_run: str, jobs: int = 1) -> None:
        def table() -> list[dict[str, str]] | None:
            rows = api.job_table(flow_run)
            return rows if [row["State"] for row in rows] == ["CANCELLED"] * jobs else None

        for row in until(table, "the end in the table"):
            until(lambda row=row: api.job_events(row).count("firecrest.job.ended") == 1, "the event")
        until(lambda: "cancelled" in api.log(flow_run).partition("The flow run was ")[2], "the line in the log")

    return shows_the_end


@pytest.mark.parametrize("case", ["direct", "submit", "map", "subflow"])
def test_a_flow_run_that_is_cancelled_takes_its_jobs_with_it(
    api, serve, workdir, lines, all_cancelled, shows_the_end, case
) -> None:
    """Its own process sees to it, without a hook and without the reconciler."""
    flow_run = serve("endless", working_dir=str(workdir), case=case)
    until(lambda: len(lines("runs")) == (8 if case == "map" else 1), "the start of the jobs")
    api.cancel(flow_run)
    until(all_cancelled, "the end of the jobs")
    until(lambda: api.state(flow_run) == "CANCELLED", "the end of the flow run")
    shows_the_end(flow_run, 8 if case == "map" else 1)
    until(lambda: api.record_artifacts(flow_run) == [], "the end of its records")


def test_a_suspended_flow_run_that_is_cancelled(
    api, serve, reconciled, workdir, lines, all_cancelled, shows_the_end
) -> None:
    flow_run = serve("endless", working_dir=str(workdir), case="suspended")
    until(lambda: api.state(flow_run) == "PAUSED", "the suspension")
    until(lambda: lines("runs"), "the start of the job")
    api.cancel(flow_run)
    until(all_cancelled, "the end of the job")
    shows_the_end(flow_run)
    until(lambda: api.record_artifacts(flow_run) == [], "the end of its records")


def test_a_flow_run_whose_runner_was_killed_is_cancelled(
    api, environment, reconciled, tmp_path, workdir, lines, all_cancelled, shows_the_end
) -> None:
    served = Served(api, environment, tmp_path, "killed")
    with served.running() as runner:
        flow_run = served.start("endless", working_dir=str(workdir), case="submit")
        until(lambda: lines("runs"), "the start of the job")
        for one in [runner, *runner.children(recursive=True)]:
            one.kill()
    assert api.state(flow_run) == "RUNNING"
    api.cancel(flow_run)
    until(all_cancelled, "the end of the job")
    shows_the_end(flow_run)


def test_a_flow_run_that_is_deleted(api, serve, reconciled, workdir, lines, all_cancelled) -> None:
    flow_run = serve("endless", working_dir=str(workdir), case="suspended")
    until(lambda: api.state(flow_run) == "PAUSED", "the suspension")
    until(lambda: lines("runs"), "the start of the job")
    api.delete(f"/flow_runs/{flow_run}")
    until(all_cancelled, "the end of the job")


def test_a_flow_run_that_crashed_and_is_run_again(api, serve, environment, workdir, lines, states_in) -> None:
    flow_run = serve("relax", working_dir=str(workdir))
    until(lambda: len(lines("runs")) == 2 and lines("processes"), "the first submission")
    os.kill(int(lines("processes")[0]), signal.SIGKILL)
    until(lambda: api.state(flow_run) == "CRASHED", "the crash")
    once = [sys.executable, "-m", "prefect_firecrest.reconcile", "--once"]
    subprocess.run(once, env=environment, check=True)
    assert set(states_in(workdir)) == {JobState.RUNNING}
    api.retry(flow_run)
    until(lambda: len(lines("processes")) == 2, "the second submission")
    (workdir / "go").touch()
    until(lambda: api.state(flow_run) == "COMPLETED", "the end")
    assert len(lines("runs")) == 2
    subprocess.run(once, env=environment, check=True)
    assert api.record_artifacts(flow_run) != []  # its claims may go only some minutes later


def test_a_flow_run_that_crashed_and_is_given_up(api, serve, environment, workdir, lines, all_cancelled) -> None:
    flow_run = serve("relax", working_dir=str(workdir))
    until(lambda: len(lines("runs")) == 2 and lines("processes"), "the submission")
    os.kill(int(lines("processes")[0]), signal.SIGKILL)
    until(lambda: api.state(flow_run) == "CRASHED", "the crash")
    once = [sys.executable, "-m", "prefect_firecrest.reconcile", "--once", "--crashed-for", "0"]
    subprocess.run(once, env=environment, check=True)
    until(all_cancelled, "the end of the jobs")
    assert api.record_artifacts(flow_run) == []


def test_a_script_that_is_interrupted_cancels_its_job_while_it_exits(
    api, environment, f7t, tmp_path, workdir, states_in, shows_the_end
) -> None:
    """It exits before the first interval has passed, and it has to look up the names of both servers then."""
    script = tmp_path / "script.py"
    script.write_text(
        """
import os

from prefect import flow
from prefect.context import FlowRunContext
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, submit_job


@flow
def interrupted():
    job = FirecRESTJob(
        credentials=FirecRESTCredentials.from_environment(), working_dir=os.environ["WORKDIR"], command="sleep 600"
    )
    print(FlowRunContext.get().flow_run.id)
    submit_job(job)
    raise KeyboardInterrupt


interrupted()
"""
    )
    named = {
        name: value.replace("127.0.0.1", "localhost")
        for name, value in {**f7t.environ, "PREFECT_API_URL": environment["PREFECT_API_URL"]}.items()
    }
    result = subprocess.run(
        [sys.executable, script],
        env=environment | named | {"WORKDIR": str(workdir)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "KeyboardInterrupt" in result.stderr
    assert "Cannot see" not in result.stderr
    assert states_in(workdir) == [JobState.CANCELLED], result.stderr
    shows_the_end(result.stdout.split()[0])
