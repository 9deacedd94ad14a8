"""A task's dry run submits nothing and shows what would be submitted."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator


def test_the_log_shows_the_script(connected, workdir, run_task, ti, task_log, requests) -> None:
    fields = {"command": "echo hello", "working_dir": str(workdir), "partition": "auto", "dry_run": True}
    run = run_task(lambda: FirecRESTSubmitOperator(task_id="job", **fields))
    assert run.result == {
        "dry_run": True,
        "system": connected.system,
        "name": "dag.task",
        "script": run.result["script"],
        "problems": [],
    }
    assert not ti.pushed
    assert not run.deferrals
    assert "POST jobs" not in requests
    log = task_log()
    assert "Nothing is submitted" in log
    assert "#SBATCH --partition=normal,debug" in log


def test_a_job_that_could_not_run_fails_the_task(connected, workdir, run_task) -> None:
    fields = {"command": "true", "working_dir": str(workdir), "partition": "gpu", "dry_run": True}
    with pytest.raises(AirflowFailException, match="there is no 'gpu'; there are normal, debug"):
        run_task(lambda: FirecRESTSubmitOperator(task_id="job", **fields))
