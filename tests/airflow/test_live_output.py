"""What a job prints, in the task's log while it runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from airflow_provider_firecrest.sensors import FirecRESTJobSensor
from firecrest_core import hidden_values
from firecrest_core.errors import ConfigurationError, JobFailed

both_ways = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])

# Goes on when a file is there, which the test makes when it has seen the first line.
TALKING = """#!/bin/bash
#SBATCH --error=err.txt
echo "step 1"
echo "careful" >&2
until [ -e go ]; do sleep 0.1; done
echo "step 2"
printf "the end"
"""


def submit(workdir: Path, script: str = TALKING, **more: Any) -> Callable[[], FirecRESTSubmitOperator]:
    return lambda: FirecRESTSubmitOperator(
        task_id="job", script=script, working_dir=str(workdir), poll_interval=0.2, **more
    )


@pytest.fixture
def goes_on(workdir: Path, mocker: Any) -> list[str]:
    """The lines that a trigger logs as output; the job goes on when the first one is there."""
    from airflow_provider_firecrest.triggers import job as trigger

    lines: list[str] = []
    log_lines = trigger.log_lines

    def note(log: Any, stream: str, new: list[str]) -> None:
        lines.extend(f"{stream} | {line}" for line in new)
        if len(lines) >= 2:
            (workdir / "go").touch()
        log_lines(log, stream, new)

    mocker.patch.object(trigger, "log_lines", note)
    return lines


@both_ways
def test_each_line_is_in_the_log_while_the_job_runs_and_once(
    connected, workdir, run_task, task_log, goes_on, deferrable
) -> None:
    result = run_task(submit(workdir, deferrable=deferrable)).result

    assert sorted(goes_on[:2]) == ["err | careful", "out | step 1"]
    log = task_log()
    assert re.search(r"out \| step 1.*RUNNING|RUNNING.*out \| step 1", log, re.S)
    for line in ("out | step 1", "err | careful", "out | step 2", "out | the end"):
        assert log.count(line) == 1, log
    assert "Last lines of" not in log
    assert result["state"] == "COMPLETED"


@both_ways
def test_without_it_only_the_end_is_shown(connected, workdir, run_task, task_log, deferrable) -> None:
    (workdir / "go").touch()
    run_task(submit(workdir, deferrable=deferrable, live_output=False))

    log = task_log()
    assert "out |" not in log
    assert log.count("Last lines of") == 2


def test_the_error_of_a_job_that_failed_has_its_last_lines(connected, workdir, run_task, goes_on) -> None:
    with pytest.raises(JobFailed, match="careful"):
        run_task(submit(workdir, TALKING + "exit 3\n"))


def test_an_output_that_cannot_be_read_does_not_harm_the_wait(connected, workdir, run_task, task_log, mocker) -> None:
    (workdir / "go").touch()
    mocker.patch("firecrest_core.follow.output_file.OutputFile.read", side_effect=RuntimeError("a bug"))

    assert run_task(submit(workdir, "#!/bin/sh\necho one\nsleep 2\n")).result["state"] == "COMPLETED"
    assert "one" in task_log()


def test_a_triggerer_knows_which_secrets_it_must_not_show(connected, workdir, run_task, task_log, goes_on) -> None:
    """It is another process than the worker that has made the job's script."""
    script = TALKING.replace('echo "step 1"', 'echo "step 1 $HF_TOKEN"')

    run_task(
        submit(workdir, script, environment={"HF_TOKEN": "not-for-your-eyes"}),
        when_deferred=hidden_values._hidden.clear,
    )

    log = task_log()
    assert "out | step 1 ***" in log
    assert "not-for-your-eyes" not in log


def test_the_element_of_an_array_that_is_asked_for(connected, workdir, run_task, task_log) -> None:
    script = "#!/bin/bash\necho element $SLURM_ARRAY_TASK_ID\nsleep 2\n"
    run_task(submit(workdir, script, array="0-2", live_output=1))
    log = task_log()
    assert "out | element 1" in log
    assert "out | element 0" not in log


def test_a_sensor_shows_it_if_wanted(connected, workdir, run_task, task_log, goes_on) -> None:
    job = FirecRESTHook().submit_job(script=TALKING, working_dir=str(workdir))

    run_task(lambda: FirecRESTJobSensor(task_id="s", job_id=job.job_id, poll_interval=0.2, live_output=True))

    assert "out | step 1" in task_log()


@pytest.mark.parametrize("odd", ["yes", -1, 1.5, None])
def test_what_it_cannot_be_is_refused_with_the_dag(odd: Any) -> None:
    with pytest.raises(ConfigurationError, match="live_output"):
        FirecRESTSubmitOperator(task_id="job", command="true", working_dir="~", live_output=odd)
