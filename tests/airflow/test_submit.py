"""Submitting and waiting, in the triggerer and in the worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout, TaskDeferred

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.job_snapshots import ENDED_KEY, SNAPSHOT_KEY
from airflow_provider_firecrest.operators import FirecRESTCancelOperator, FirecRESTSubmitOperator
from airflow_provider_firecrest.triggers import job as job_trigger
from airflow_provider_firecrest.triggers.job import FirecRESTJobTrigger
from firecrest_core.api.client import System
from firecrest_core.api.models import JobInfo
from firecrest_core.errors import InvalidJobSpec, JobFailed, JobTimeLimit
from firecrest_core.jobs.snapshot import JobSnapshot
from firecrest_core.states import JobState

TELLING = """#!/bin/bash
#SBATCH --job-name=telling
#SBATCH --output=out-%j.txt
#SBATCH --error=err-%j.txt
echo "energy -15.84"
echo "careful" >&2
until [ -e seen ]; do sleep 0.05; done
"""

both_ways = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])


def submit(script: str, workdir: Path, **more: Any) -> Callable[[], FirecRESTSubmitOperator]:
    more = {"poll_interval": 0.2, **more}
    return lambda: FirecRESTSubmitOperator(task_id="job", script=script, working_dir=str(workdir), **more)


@pytest.fixture
def ends_when_seen(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job of ``TELLING`` ends after the second look that sees it run: what the first one saw is in the log then."""
    looks = 0

    def seen_by(method: Callable[..., Awaitable[list[JobInfo]]]) -> Callable[..., Awaitable[list[JobInfo]]]:
        async def look(*args: Any, **asked: Any) -> list[JobInfo]:
            nonlocal looks
            rows = await method(*args, **asked)
            looks += any(row.state is JobState.RUNNING for row in rows)
            if looks == 2:
                (workdir / "seen").touch()
            return rows

        return look

    for name in ("get_job", "get_jobs"):
        monkeypatch.setattr(System, name, seen_by(getattr(System, name)))


@both_ways
@pytest.mark.usefixtures("ends_when_seen")
def test_the_result_and_the_log(connected, workdir, run_task, ti, task_log, deferrable) -> None:
    run = run_task(submit(TELLING, workdir, deferrable=deferrable, live_output=False))
    job_id = run.result["job_id"]
    assert run.result == run.result | {
        "jobId": job_id,
        "job_id": job_id,
        "system": connected.system,
        "name": "telling",
        "state": "COMPLETED",
        "exit_code": 0,
        "nodes": "nid001",
        "working_directory": str(workdir),
        "stdout": f"{workdir}/out-{job_id}.txt",
        "stderr": f"{workdir}/err-{job_id}.txt",
    }
    assert run.result == json.loads(json.dumps(run.result))
    assert len(run.deferrals) == (1 if deferrable else 0)
    assert ti.pushed == ti.pushed | {"job_id": job_id, "job": run.result}
    log = task_log()
    lines = (
        f"Job {job_id} (telling) was submitted to {connected.system}",
        f"Job {job_id} (telling) on {connected.system}: RUNNING on nid001, elapsed 0:00:0",
        "ended COMPLETED, exit code 0",
        f"Last lines of {workdir}/out-{job_id}.txt",
        "energy -15.84",
        "careful",
    )
    for line in lines:
        assert line in log, log
    assert log.count("ended COMPLETED") == 2  # when it ended, and in its history


@both_ways
def test_a_failed_job_names_state_exit_code_and_last_lines(connected, workdir, run_task, deferrable) -> None:
    script = "#!/bin/bash\n#SBATCH --error=err.txt\necho fine\necho 'no basis set' >&2\nexit 7\n"
    with pytest.raises(JobFailed) as caught:
        run_task(submit(script, workdir, deferrable=deferrable))
    error = caught.value
    assert isinstance(error, AirflowException)
    assert not isinstance(error, AirflowFailException)  # a retry may help
    assert error.result.state is JobState.FAILED
    for words in ("FAILED", "exit code 7", "no basis set"):
        assert words in str(error)


def test_a_time_limit_is_a_failure_of_its_own_kind(connected, workdir, run_task) -> None:
    job = {"time_limit": "0:01"}
    with pytest.raises(JobTimeLimit, match="Ask for more time"):
        run_task(submit("#!/bin/bash\nsleep 60\n", workdir, job=job))


def test_resources_beside_the_script(connected, workdir, run_task) -> None:
    job = {"name": "named", "ntasks": "2", "environment": {"COLOUR": "a,b"}, "stdout": "o.txt"}
    script = "#!/bin/bash\necho $SLURM_NTASKS $COLOUR $SLURM_JOB_NAME\n"
    result = run_task(submit(script, workdir, job=job)).result
    assert result["name"] == "named"
    assert (workdir / "o.txt").read_text() == "2 a,b named\n"


def test_script_on_the_cluster(connected, workdir, run_task) -> None:
    path = workdir / "there.sh"
    path.write_text("#!/bin/bash\necho from the cluster\n")
    make = lambda: FirecRESTSubmitOperator(  # noqa: E731
        task_id="job", script_path=str(path), working_dir=str(workdir), poll_interval=0.2
    )
    result = run_task(make).result
    assert Path(result["stdout"]).read_text() == "from the cluster\n"


def test_an_array_is_waited_for_as_a_whole(connected, workdir, run_task) -> None:
    script = "#!/bin/bash\n#SBATCH --array=0-2\necho $SLURM_ARRAY_TASK_ID; [ $SLURM_ARRAY_TASK_ID != 1 ]\n"
    with pytest.raises(JobFailed, match=r"2 of 3 array elements COMPLETED, 1 FAILED \(1\)"):
        run_task(submit(script, workdir))


def test_a_mapping_is_checked_when_the_task_runs(connected, workdir, run_task) -> None:
    with pytest.raises(InvalidJobSpec, match="nodes") as caught:
        run_task(submit(TELLING, workdir, job={"nodes": "-1"}))
    assert isinstance(caught.value, AirflowFailException)
    with pytest.raises(InvalidJobSpec, match="did you mean 'partition'"):
        run_task(submit(TELLING, workdir, job={"partitions": "x"}))


# --- template files ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.sbatch").write_text("#!/bin/bash\necho {{ ds }}\n")
    return tmp_path


def render(task: Any) -> Any:
    task.resolve_template_files()
    task.render_template_fields({"ds": "today", "params": {}})
    return task


def test_script_from_a_template_file(folder: Path) -> None:
    with DAG("d", schedule=None, template_searchpath=str(folder)):
        task = FirecRESTSubmitOperator(task_id="t", script="job.sbatch", working_dir="/w")
    assert render(task).script == "#!/bin/bash\necho today"


def test_text_that_ends_like_a_file_is_text() -> None:
    with DAG("d", schedule=None):
        task = FirecRESTSubmitOperator(task_id="t", script="#!/bin/bash\n./{{ ds }}.sh", working_dir="/w")
    assert render(task).script == "#!/bin/bash\n./today.sh"


def test_other_fields_name_files_on_the_cluster() -> None:
    with DAG("d", schedule=None):
        task = FirecRESTSubmitOperator(
            task_id="t", script_path="/c/{{ ds }}.sh", working_dir="/w.sh", job={"stdout": "{{ ds }}.slurm"}
        )
    render(task)
    assert (task.script_path, task.working_dir, task.job) == ("/c/today.sh", "/w.sh", {"stdout": "today.slurm"})


def test_a_template_file_that_is_missing(folder: Path) -> None:
    with DAG("d", schedule=None, template_searchpath=str(folder)):
        task = FirecRESTSubmitOperator(task_id="t", script="nowhere.sh", working_dir="/w")
    with pytest.raises(AirflowFailException, match="no template file 'nowhere.sh'"):
        render(task)


# --- limits and cancelling ---------------------------------------------------------------------------


def gone(workdir: Path) -> bool:
    return not (workdir / "late").exists()


SLEEPING = "#!/bin/bash\ntouch began\nsleep 8\ntouch late\n"


def wait_until_begun(workdir: Path) -> None:
    """Wait until the payload runs. A job that finds its claim cancelled before ends COMPLETED, not CANCELLED."""
    deadline = time.monotonic() + 60
    while not (workdir / "began").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def state_of(job_id: str) -> JobState:
    return FirecRESTHook().get_job(job_id).state


def cancelled(job_id: str) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if state_of(job_id) is JobState.CANCELLED:
            return True
        time.sleep(0.1)
    return False


@both_ways
def test_execution_timeout_holds_and_cancels_the_job(connected, workdir, run_task, ti, deferrable) -> None:
    make = submit(SLEEPING, workdir, deferrable=deferrable, execution_timeout=timedelta(seconds=1))
    with pytest.raises(AirflowTaskTimeout, match=r"execution_timeout .* has passed; cancelled job"):
        run_task(make)
    assert cancelled(ti.pushed["job_id"])
    shown = JobSnapshot.from_dict(ti.pushed[SNAPSHOT_KEY])
    assert shown.state is JobState.CANCELLED
    assert "has passed, so the job was cancelled" in shown.history[-1].text
    [kept] = ti.state_store.get(ENDED_KEY)  # the next try removes the XCom
    assert (kept["job_id"], kept["state"]) == (shown.job_id, "CANCELLED")


def test_a_deadline_survives_the_triggerers_restart(connected, workdir, ti) -> None:
    ti.start_date = datetime.now(UTC) - timedelta(minutes=5)
    task = submit(SLEEPING, workdir, execution_timeout=timedelta(minutes=6))()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({"ti": ti, "task_state_store": ti.state_store})
    assert deferred.value.timeout is None
    assert deferred.value.trigger.deadline == pytest.approx((ti.start_date + timedelta(minutes=6)).timestamp())
    task.hook.cancel_job(ti.pushed["job_id"])


def test_a_trigger_does_not_fire_before_airflow_knows_that_the_worker_is_done(
    connected, workdir, ti, monkeypatch, first_event
) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "2")
    began = time.time()
    with pytest.raises(TaskDeferred) as deferred:
        submit("#!/bin/bash\ntrue\n", workdir)().execute({"ti": ti, "task_state_store": ti.state_store})
    trigger = deferred.value.trigger
    assert trigger.not_before >= began + 3
    assert asyncio.run(first_event(trigger))["status"] == "success"
    assert time.time() >= trigger.not_before


@pytest.fixture
def task_state(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """What Airflow answers when it is asked for the task's state; ``None`` for a task that is gone."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def set_state(state: str | None, key: str = "task") -> None:
        answer = {} if state is None else {"run": {key: state}}
        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **asked: answer)

    return set_state


@pytest.fixture
def waiting_trigger(connected, workdir, ti) -> FirecRESTJobTrigger:
    with pytest.raises(TaskDeferred) as deferred:
        submit(SLEEPING, workdir)().execute({"ti": ti, "task_state_store": ti.state_store})
    wait_until_begun(workdir)
    trigger = deferred.value.trigger
    trigger.task_instance = ti
    return trigger


@pytest.mark.parametrize(
    ("state", "newer_job"),
    [("scheduled", None), ("running", None), (None, None), ("deferred", "4712")],
    ids=["scheduled", "running", "deleted", "deferred again"],
)
def test_the_event_of_a_cancelled_job_does_not_reach_the_new_try_of_a_cleared_task(
    waiting_trigger, task_state, monkeypatch, first_event, state, newer_job
) -> None:
    """SQLite gives the number of the old trigger to the new one, and Airflow fails a task that is resumed at once."""
    job_id = waiting_trigger.job["job_id"]
    waiting_trigger.hook.cancel_job(job_id)

    def stored_job(stored: str | None) -> None:
        async def get_one(**asked: Any) -> str | None:
            assert asked["key"] == "job_id"
            return stored

        monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom.aget_one", get_one)

    async def fires_within(seconds: float) -> bool:
        firing = asyncio.create_task(first_event(waiting_trigger))
        done, _ = await asyncio.wait({firing}, timeout=seconds)
        if done:
            assert firing.result()["result"]["state"] == "CANCELLED"
        firing.cancel()
        return bool(done)

    monkeypatch.setattr(job_trigger, "_BETWEEN_CHECKS", 0.05)
    monkeypatch.setattr(job_trigger, "_CHECKS", 10_000)
    task_state(state)
    stored_job(newer_job or job_id)
    assert not asyncio.run(fires_within(3))
    monkeypatch.setattr(job_trigger, "_CHECKS", 2)  # but not for ever
    assert asyncio.run(fires_within(120))
    monkeypatch.setattr(job_trigger, "_CHECKS", 10_000)
    task_state("deferred")
    stored_job(job_id)
    assert asyncio.run(fires_within(120))


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed", None])
def test_a_person_who_ends_a_deferred_task_cancels_its_job(waiting_trigger, task_state, state) -> None:
    task_state(state)
    asyncio.run(waiting_trigger.on_kill())
    assert cancelled(waiting_trigger.job["job_id"])


def test_the_element_of_a_mapped_task_is_looked_up(waiting_trigger, task_state, ti) -> None:
    ti.map_index = 3
    task_state("deferred", key="task_3")
    asyncio.run(waiting_trigger.on_kill())
    assert state_of(waiting_trigger.job["job_id"]) is not JobState.CANCELLED


@pytest.mark.parametrize("state", ["deferred", "up_for_retry", "scheduled", "queued", "running", "restarting"])
def test_a_trigger_whose_task_goes_on_leaves_its_job_alone(waiting_trigger, task_state, task_log, state) -> None:
    task_state(state)
    asyncio.run(waiting_trigger.on_kill())
    log = task_log()
    assert f"no longer waits for job {waiting_trigger.job['job_id']}" in log
    assert "If the task was cleared, its new run cancels the job; otherwise another triggerer goes on" in log
    assert state_of(waiting_trigger.job["job_id"]) is not JobState.CANCELLED


def test_when_airflow_does_not_answer_the_job_goes_on(waiting_trigger, monkeypatch, task_log) -> None:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def broken(**asked: object) -> None:
        raise ConnectionError("no supervisor")

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", broken)
    asyncio.run(waiting_trigger.on_kill())
    assert "no supervisor" in task_log()
    assert state_of(waiting_trigger.job["job_id"]) is not JobState.CANCELLED


def test_ending_a_task_survives_that_airflow_repeats_its_cancel(waiting_trigger, monkeypatch) -> None:
    """Measured on 3.3.2: a trigger is cancelled anew each second until it is gone, while on_kill runs."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def slow(**asked: object) -> dict:
        time.sleep(0.5)
        return {"run": {"task": "failed"}}

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", slow)

    async def kill() -> None:
        killing = asyncio.create_task(asyncio.wait_for(waiting_trigger.on_kill(), timeout=30))
        for _ in range(3):
            await asyncio.sleep(0.1)
            killing.cancel()
        # What ends the job lives as long as the triggerer's event loop.
        assert await asyncio.to_thread(cancelled, waiting_trigger.job["job_id"])

    asyncio.run(kill())


def test_a_trigger_that_is_stopped_leaves_its_job_alone(waiting_trigger) -> None:
    async def stop() -> None:
        waiting = asyncio.create_task(waiting_trigger.event())
        await asyncio.sleep(0.5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(stop())
    assert state_of(waiting_trigger.job["job_id"]) is not JobState.CANCELLED


@pytest.mark.parametrize(("state", "ends"), [("failed", True), ("running", False), ("deferred", False)])
def test_a_worker_that_is_stopped(connected, workdir, run_task, ti, task_state, state, ends) -> None:
    """SIGTERM comes when a person ends the task and when a worker is stopped; the task's state says which."""
    task_state(state)
    task = submit(SLEEPING, workdir, deferrable=False)()

    def terminate() -> None:
        wait_until_begun(workdir)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: task.on_kill())  # as Airflow's task runner does
    try:
        threading.Thread(target=terminate).start()
        if ends:
            with pytest.raises(JobFailed, match="CANCELLED"):
                task.execute({"ti": ti, "task_state_store": ti.state_store})
        else:
            assert task.execute({"ti": ti, "task_state_store": ti.state_store})["state"] == "COMPLETED"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_limit_that_airflow_enforces_in_the_worker_cancels(connected, workdir, ti, task_state) -> None:
    task_state("running")
    hook = FirecRESTHook()
    job = hook.submit_job(script=SLEEPING, working_dir=str(workdir))
    task = submit(SLEEPING, workdir, deferrable=False)()
    task.record_jobs({"ti": ti, "task_state_store": ti.state_store}, [job.to_dict()])
    try:
        raise AirflowTaskTimeout
    except AirflowTaskTimeout:
        task.on_kill()
    assert cancelled(job.job_id)


def test_cancel_operator(connected, workdir, run_task) -> None:
    job = FirecRESTHook().submit_job(script=SLEEPING, working_dir=str(workdir))
    make = lambda: FirecRESTCancelOperator(task_id="c", job_id=job.job_id)  # noqa: E731
    run_task(make)
    assert cancelled(job.job_id)
    run_task(make)  # cancelling what has ended succeeds


def test_a_job_that_vanishes_while_deferred_fails_the_task_at_once(connected, workdir, ti, monkeypatch) -> None:
    monkeypatch.setattr("firecrest_core.watch.tracker.NOT_FOUND_GRACE", 0.5)
    task = submit(TELLING, workdir)()
    job = {"system": connected.system, "job_id": "424242"}
    trigger = FirecRESTJobTrigger(job=job, firecrest_conn_id="firecrest_default", poll_interval=0.2)
    event = asyncio.run(trigger.event())
    assert (event["status"], event["kind"]) == ("error", "JobNotFound")
    with pytest.raises(AirflowFailException, match="Job not found"):
        task.execute_complete({"ti": ti}, event, awaited=list(trigger.serialize()))
