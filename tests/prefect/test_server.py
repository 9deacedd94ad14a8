"""A real Prefect server: its command line, a flow that it serves, and real deaths of the flow's process."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.prefect.real import PREFECT, until


def test_prefect_registers_the_collection(api, environment) -> None:
    command = [*PREFECT, "block", "register", "-m", "prefect_firecrest"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "FirecREST Credentials" in result.stdout
    assert "FirecREST Job" in result.stdout
    slugs = {block_type["slug"] for block_type in api.post("/block_types/filter")}
    assert {"firecrest-credentials", "firecrest-job"} <= slugs


def test_a_flow_run_whose_process_is_killed_adopts_its_jobs(api, serve, workdir, lines, states_in) -> None:
    flow_run = serve("relax", working_dir=str(workdir))
    until(lambda: len(lines("runs")) == 2 and lines("processes"), "the first submission")
    os.kill(int(lines("processes")[0]), signal.SIGKILL)
    until(lambda: api.state(flow_run) == "CRASHED", "the crash")
    api.retry(flow_run)
    until(lambda: len(lines("processes")) == 2, "the second submission")
    (workdir / "go").touch()
    until(lambda: api.state(flow_run) == "COMPLETED", "the end")
    assert len(lines("runs")) == 2
    assert len(states_in(workdir)) == 2
    assert api.get(f"/flow_runs/{flow_run}")["run_count"] == 2


def test_a_flow_run_that_is_suspended_and_resumed_adopts_its_jobs(api, serve, workdir, lines, states_in) -> None:
    flow_run = serve("relax", working_dir=str(workdir), suspend=True)
    until(lambda: api.state(flow_run) == "PAUSED", "the suspension")
    api.post(f"/flow_runs/{flow_run}/resume")
    until(lambda: len(lines("processes")) == 2, "the second submission")
    (workdir / "go").touch()
    until(lambda: api.state(flow_run) == "COMPLETED", "the end")
    assert len(lines("runs")) == 2
    assert len(states_in(workdir)) == 2
