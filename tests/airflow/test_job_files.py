"""Inputs and outputs of a job, and the value that it returns, in the task that submits it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_provider_firecrest.job_records import JobRecord
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core.errors import JobFailed

COUNTED = "#!/bin/bash\necho run >> runs\ncp in.txt out.txt\nsleep ${1:-0}\n"


def submit(script: str, workdir: Path, **more: Any) -> Callable[[], FirecRESTSubmitOperator]:
    more = {"poll_interval": 0.2, **more}
    return lambda: FirecRESTSubmitOperator(task_id="job", script=script, working_dir=str(workdir), **more)


def test_one_task_sends_runs_and_fetches(connected, workdir, tmp_path, run_task, ti) -> None:
    (tmp_path / "in.txt").write_text("42")
    script = COUNTED + "mkdir -p tree/sub; echo x > tree/sub/x\necho '{\"energy\": -15.8}' > return.json\n"
    outputs = {"out.txt": str(tmp_path / "copied.txt"), "tree": str(tmp_path / "tree"), "slurm-*": f"{tmp_path}/logs"}
    make = submit(script, workdir, inputs={str(tmp_path / "in.txt"): "in.txt"}, outputs=outputs)
    job_id = run_task(make).result["job_id"]
    assert (tmp_path / "copied.txt").read_text() == "42"
    assert (tmp_path / "tree" / "sub" / "x").exists()
    assert (tmp_path / "logs" / f"slurm-{job_id}.out").exists()
    assert ti.pushed["return"] == {"energy": -15.8}


def test_a_retry_that_adopts_the_job_sends_nothing(connected, workdir, tmp_path, run_task, ti) -> None:
    (tmp_path / "in.txt").write_text("first")
    script = "#!/bin/bash\nuntil [ -e go ]; do sleep 0.1; done\necho run >> runs\n"
    make = submit(script, workdir, inputs={str(tmp_path / "in.txt"): "in.txt"})
    with pytest.raises(TaskDeferred):
        make().execute({"ti": ti, "task_state_store": ti.state_store})
    (tmp_path / "in.txt").write_text("second")
    run_task(make, when_deferred=(workdir / "go").touch)
    assert (workdir / "in.txt").read_text() == "first"
    assert (workdir / "runs").read_text() == "run\n"


def test_a_retry_after_an_output_that_was_missing_fetches_alone(connected, workdir, tmp_path, run_task, ti) -> None:
    (tmp_path / "in.txt").write_text("42")
    more = {"inputs": {str(tmp_path / "in.txt"): "in.txt"}, "outputs": {"late.txt": str(tmp_path / "late.txt")}}
    with pytest.raises(AirflowFailException, match=r"late\.txt: no such file"):
        run_task(submit(COUNTED, workdir, **more))
    assert ti.pushed["job"]["state"] == "COMPLETED"
    (workdir / "late.txt").write_text("late")
    (tmp_path / "in.txt").unlink()  # it is not needed any more
    run_task(submit(COUNTED, workdir, **more))
    assert (tmp_path / "late.txt").read_text() == "late"
    assert (workdir / "runs").read_text() == "run\n"


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_large_outputs(connected, workdir, tmp_path, run_task, ti, deferrable) -> None:
    script = "#!/bin/bash\nhead -c 200000 /dev/urandom > large.bin\necho small > small.txt\n"
    outputs = {"large.bin": str(tmp_path / "large.bin"), "small.txt": str(tmp_path / "small.txt")}
    run = run_task(submit(script, workdir, outputs=outputs, deferrable=deferrable))
    assert run.result["state"] == "COMPLETED"
    assert (tmp_path / "large.bin").read_bytes() == (workdir / "large.bin").read_bytes()
    assert (tmp_path / "small.txt").read_text() == "small\n"
    assert len(run.deferrals) == (2 if deferrable else 0)
    record = JobRecord.read({"ti": ti, "task_state_store": ti.state_store})
    assert record.ended  # the triggerer removes the job's claim, as without outputs
    assert [job["job_id"] for job in record.jobs] == [run.result["job_id"]]


def test_what_a_failed_job_left(connected, workdir, tmp_path, run_task, ti) -> None:
    outputs = {"log.txt": str(tmp_path / "log.txt"), "missing": str(tmp_path / "missing")}
    with pytest.raises(JobFailed, match="exit code 7"):
        run_task(submit("#!/bin/bash\necho why > log.txt\necho 1 > return.json\nexit 7\n", workdir, outputs=outputs))
    assert (tmp_path / "log.txt").read_text() == "why\n"
    assert "return" not in ti.pushed


def test_a_large_output_of_a_failed_job(connected, workdir, tmp_path, run_task) -> None:
    script = "#!/bin/bash\nhead -c 200000 /dev/urandom > core.bin\nexit 7\n"
    outputs = {"core.bin": str(tmp_path / "core.bin"), "missing": str(tmp_path / "missing")}
    with pytest.raises(JobFailed, match="exit code 7"):
        run_task(submit(script, workdir, outputs=outputs))
    assert (tmp_path / "core.bin").read_bytes() == (workdir / "core.bin").read_bytes()


def test_a_job_that_failed_gets_its_inputs_anew(connected, workdir, tmp_path, run_task) -> None:
    (tmp_path / "in.txt").write_text("42")
    script = "#!/bin/bash\ncat in.txt >> seen\nrm in.txt\n[ $(wc -c < seen) = 4 ]\n"
    make = submit(script, workdir, inputs={str(tmp_path / "in.txt"): "in.txt"})
    with pytest.raises(JobFailed):
        run_task(make)
    run_task(make)
    assert (workdir / "seen").read_text() == "4242"


def test_what_cannot_be_fetched_is_refused_before_the_job_is_submitted(
    connected, workdir, tmp_path, run_task, ti
) -> None:
    for outputs in (
        {"a/x": f"{tmp_path}/", "b/x": f"{tmp_path}/"},
        {"x": "nostore://bucket/x"},
    ):
        with pytest.raises(AirflowFailException, match=r"would both become|nostore"):
            run_task(submit(COUNTED, workdir, outputs=outputs))
    assert "job_id" not in ti.pushed
    assert not (workdir / "runs").exists()


@pytest.mark.parametrize("files", ["in.txt", ["in.txt"], 3])
def test_what_is_no_mapping_is_refused_while_the_dag_is_parsed(files) -> None:
    with pytest.raises(AirflowFailException, match="inputs: a mapping {path here: path on the system} is needed"):
        FirecRESTSubmitOperator(task_id="job", script=COUNTED, working_dir="/wd", inputs=files)


def test_an_input_that_is_missing_submits_nothing(connected, workdir, tmp_path, run_task, ti) -> None:
    with pytest.raises(AirflowFailException, match="no such file or directory on this side"):
        run_task(submit(COUNTED, workdir, inputs={str(tmp_path / "in.txt"): "in.txt"}))
    assert "job_id" not in ti.pushed


def test_each_try_without_a_claim_sends(connected, workdir, tmp_path, run_task) -> None:
    (tmp_path / "in.txt").write_text("42")
    run_task(submit(COUNTED, workdir, inputs={str(tmp_path / "in.txt"): "in.txt"}, exactly_once=False))
    assert (workdir / "out.txt").read_text() == "42"


def test_both_sides_are_templates() -> None:
    files = {"/data/{{ ds }}": "{{ ds }}.txt", "run.sh": "run.sh"}
    task = FirecRESTSubmitOperator(task_id="job", script=COUNTED, working_dir="/wd", inputs=files, outputs=files)
    task.render_template_fields({"ds": "today"})
    assert task.inputs == task.outputs == [("/data/today", "today.txt"), ("run.sh", "run.sh")]


def test_a_mapping_that_another_task_returns(connected, workdir, tmp_path, run_task) -> None:
    (tmp_path / "in.txt").write_text("42")

    def make() -> FirecRESTSubmitOperator:
        with DAG("d", schedule=None):
            files = PythonOperator(task_id="files", python_callable=dict)
            task = FirecRESTSubmitOperator(
                task_id="job", script=COUNTED, working_dir=str(workdir), poll_interval=0.2, inputs=files.output
            )
        assert task.upstream_task_ids == {"files"}
        task.inputs = {str(tmp_path / "in.txt"): "in.txt"}  # as it is rendered
        return task

    run_task(make)
    assert (workdir / "out.txt").read_text() == "42"
