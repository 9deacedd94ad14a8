"""Waiting without a process: a real Prefect server, a flow that it serves, and the reconciler."""

from __future__ import annotations

import subprocess
import sys

import pytest
from prefect import flow

from firecrest_core.errors import ConfigurationError
from prefect_firecrest import run_job, submit_job, suspend_until_ended
from tests.prefect.real import until


def test_a_flow_run_is_suspended_until_its_jobs_have_ended(api, serve, reconciled, workdir, lines, states_in) -> None:
    flow_run = serve("patient", working_dir=str(workdir), command="sleep 5")
    until(lambda: api.state(flow_run) == "PAUSED" and lines("runs"), "the suspension")
    elapsed = {row["Elapsed"] for row in api.job_table(flow_run)}
    until(lambda: not elapsed & {row["Elapsed"] for row in api.job_table(flow_run)}, "a change in the table")
    (workdir / "go").touch()
    until(lambda: api.state(flow_run) == "COMPLETED", "the end")
    assert len(lines("runs")) == len(states_in(workdir)) == 2
    assert len(lines("processes")) == 3


def test_a_job_that_failed_is_reported_and_not_run_again(api, serve, reconciled, workdir, lines, states_in) -> None:
    (workdir / "go").touch()
    flow_run = serve("patient", working_dir=str(workdir), command="[ -e mended ]")
    until(lambda: api.state(flow_run) == "FAILED", "the end")
    assert len(lines("runs")) == len(states_in(workdir)) == 2
    (workdir / "mended").touch()

    def ended() -> bool:
        # A person wants a new job. The runner of Prefect 3.7.7 may take the failure's exit code for a crash of it.
        if api.state(flow_run) in ("FAILED", "CRASHED"):
            api.retry(flow_run)
        return api.state(flow_run) == "COMPLETED"

    until(ended, "the end")
    assert len(lines("runs")) == len(states_in(workdir)) == 3


def test_reconciling_now_and_then_is_enough(api, serve, environment, workdir, lines) -> None:
    once = [sys.executable, "-m", "prefect_firecrest.reconcile", "--once"]
    flow_run = serve("patient", working_dir=str(workdir), command="true")
    until(lambda: api.state(flow_run) == "PAUSED" and lines("runs"), "the suspension")
    subprocess.run(once, env=environment, check=True)
    assert api.state(flow_run) == "PAUSED"
    (workdir / "go").touch()

    def ended() -> bool:
        subprocess.run(once, env=environment, check=True)
        return api.state(flow_run) == "COMPLETED"

    until(ended, "the end")
    assert len(lines("runs")) == 2


def test_a_sweep_is_suspended_once_until_its_last_job_has_ended(
    api, serve, reconciled, workdir, lines, states_in
) -> None:
    """A job that fails keeps nobody from waiting for the others, and none is run again."""
    commands = [f"until [ -e go-{number} ]; do sleep 0.1; done; exit {number}" for number in range(4)]
    flow_run = serve("sweep", working_dir=str(workdir), commands=commands)
    until(lambda: api.state(flow_run) == "PAUSED" and len(lines("runs")) == 4, "the suspension")
    for number in range(3):
        (workdir / f"go-{number}").touch()
    ended = {"COMPLETED", "FAILED"}
    until(lambda: [row["State"] in ended for row in api.job_table(flow_run)].count(True) == 3, "the end of three")
    assert api.state(flow_run) == "PAUSED"
    (workdir / "go-3").touch()
    until(lambda: api.state(flow_run) == "FAILED", "the end")
    assert "3 of 4 jobs failed" in api.get(f"/flow_runs/{flow_run}")["state"]["message"]
    assert [path.name for path in (workdir / "fetched").iterdir()] == ["0"]
    assert len(lines("processes")) == 2
    assert len(lines("runs")) == len(states_in(workdir)) == 4


def test_what_it_takes_is_said(make) -> None:
    with pytest.raises(ConfigurationError, match="no deployment"):
        run_job(make("true"), wait="suspend")

    @flow
    def sweep() -> None:
        suspend_until_ended(submit_job.map([make("true")]).result())

    with pytest.raises(ConfigurationError, match="no deployment"):
        sweep()
    with pytest.raises(ConfigurationError, match="this is none"):
        suspend_until_ended([make("true").trigger()])
