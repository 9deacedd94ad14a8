"""What a task's log says of a job that failed: how it ended, what to do, and the last lines of its output."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from airflow_provider_firecrest.sensors import FirecRESTJobSensor
from firecrest_core import errors
from firecrest_core.states import JobState

both_ways = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])

HEAD = "#!/bin/bash\n#SBATCH --output=out-%A-%a.txt\n#SBATCH --error=err-%A-%a.txt\n"


@pytest.fixture
def fails(connected: Any, workdir: Path, run_task: Callable[..., Any]) -> Callable[..., Any]:
    """Run a job that has to fail; return the exception that ends its task."""

    def fails(script: str, **more: Any) -> errors.JobFailed:
        def make() -> FirecRESTSubmitOperator:
            return FirecRESTSubmitOperator(
                task_id="job", script=script, working_dir=str(workdir), poll_interval=0.2, **more
            )

        with pytest.raises(errors.JobFailed) as failed:
            run_task(make)
        return failed.value

    return fails


@both_ways
@pytest.mark.parametrize(
    ("script", "message_end"),
    [
        (HEAD + "echo fine; echo 'no basis set' >&2; exit 7", "standard error:\nno basis set"),
        (HEAD + "echo 'no basis set'; exit 7", "output:\nno basis set"),
        ("#!/bin/bash\necho 'no basis set' >&2; exit 7", "output:\nno basis set"),
        (HEAD + "echo x >&2; rm err*; echo 'no basis set'; exit 7", "output:\nno basis set"),
        (HEAD + "head -c 300000 /dev/zero | tr '\\0' x >&2; echo -e '\\nno basis set' >&2; exit 7", "\nno basis set"),
        (HEAD + "printf '\\0\\377\\033[31mno basis set\\033[0m' >&2; exit 7", "error:\n��no basis set"),
        (HEAD + "echo 'no https://s3.example.org/k?X-Amz-Signature=c0ffee' >&2; exit 7", "error:\nno https://s3.example.org/k?***"),
    ],
    ids=["standard error", "output alone", "one file", "no file", "huge", "binary", "presigned"],
)  # fmt: skip
def test_a_script_that_fails(fails: Any, message_end: str, script: str, deferrable: bool) -> None:
    error = fails(script + "\n", deferrable=deferrable)
    message = str(error)
    assert "ended FAILED, exit code 7" in message
    assert message.rstrip().endswith(message_end)
    assert len(message) < 2000
    assert (error.result.state, error.result.exit_code) == (JobState.FAILED, 7)


@pytest.mark.parametrize("shown", ["standard error", "output alone", "one file"])
def test_the_last_lines_are_told_once(fails: Any, task_log: Any, shown: str) -> None:
    script = {
        "standard error": HEAD + "echo fine; echo 'no basis set' >&2; exit 7\n",
        "output alone": HEAD + "echo 'no basis set'; exit 7\n",
        "one file": "#!/bin/bash\necho 'no basis set' >&2; exit 7\n",
    }[shown]
    error = fails(script, live_output=False)  # it would tell them, too, if it is quick enough
    assert "no basis set" in str(error)  # Airflow writes the error into the log
    log = task_log()
    assert "no basis set" not in log
    assert ("fine" in log) == (shown == "standard error")


@both_ways
def test_a_refusal_names_the_job_as_the_user_does(
    connected: Any, workdir: Path, run_task: Any, deferrable: bool
) -> None:
    def make() -> FirecRESTSubmitOperator:
        job = {"command": "true", "name": "relax", "partition": "nosuch"}
        return FirecRESTSubmitOperator(task_id="job", job=job, working_dir=str(workdir), deferrable=deferrable)

    with pytest.raises(errors.SubmissionRejected, match="Submission of relax to"):
        run_task(make)


def test_the_output_of_an_array_is_a_pattern_that_its_files_match(connected: Any, workdir: Path, run_task: Any) -> None:
    def make() -> FirecRESTSubmitOperator:
        job = {"command": "echo $SLURM_ARRAY_TASK_ID", "array": "0-2"}
        return FirecRESTSubmitOperator(task_id="job", job=job, working_dir=str(workdir), poll_interval=0.2)

    result = run_task(make).result
    pattern = Path(result["stdout"])
    assert len(list(pattern.parent.glob(pattern.name))) == 3


def test_no_output(fails: Any) -> None:
    assert "Last lines" not in str(fails(HEAD + "rm err-* out-*; exit 7\n"))


@both_ways
def test_a_signal(fails: Any, deferrable: bool) -> None:
    assert "FAILED, signal 11" in str(fails(HEAD + "kill -SEGV $$\n", deferrable=deferrable))


@both_ways
def test_an_array(fails: Any, deferrable: bool) -> None:
    script = HEAD + "#SBATCH --array=0-3\necho I am $SLURM_ARRAY_TASK_ID >&2; exit $((SLURM_ARRAY_TASK_ID / 2))\n"
    message = str(fails(script, deferrable=deferrable))
    assert "2 of 4 array elements COMPLETED, 2 FAILED (2-3)" in message
    assert message.endswith("Last lines of array element 2's standard error:\nI am 2")
    assert "-2.txt." in message


@both_ways
def test_a_time_limit(fails: Any, deferrable: bool) -> None:
    error = fails(HEAD + "echo started >&2; sleep 60\n", job={"time_limit": "0:03"}, deferrable=deferrable)
    assert isinstance(error, errors.JobTimeLimit)
    assert "ended TIMEOUT" in str(error)
    assert "Ask for more time" in str(error)
    assert "standard error:\nstarted" in str(error)


@both_ways
def test_somebody_else_cancels(fails: Any, connected: Any, workdir: Path, ti: Any, deferrable: bool) -> None:
    began = threading.Event()

    def cancel() -> None:
        while not (workdir / "began").exists():
            began.wait(0.05)
        FirecRESTHook().cancel_job(ti.pushed["job_id"])

    canceller = threading.Thread(target=cancel)
    canceller.start()
    error = fails(HEAD + "echo started >&2; touch began; sleep 60\n", deferrable=deferrable)
    canceller.join()
    assert isinstance(error, errors.JobCancelled)
    assert "ended CANCELLED by " in str(error)
    assert "started" in str(error)


@both_ways
@pytest.mark.parametrize(
    ("state", "kind", "advice"),
    [
        ("OUT_OF_MEMORY", errors.JobOutOfMemory, "Ask for more memory"),
        ("PREEMPTED", errors.JobPreempted, "run it again"),
        ("NODE_FAIL", errors.JobNodeFailure, "run it again"),
        ("BOOT_FAIL", errors.JobNodeFailure, "run it again"),
        ("DEADLINE", errors.JobTimeLimit, "with a later one"),
        ("REVOKED", errors.JobCancelled, ""),
    ],
)
def test_what_only_a_real_cluster_can_do(
    fails: Any, monkeypatch: pytest.MonkeyPatch, state: str, kind: type, advice: str, deferrable: bool
) -> None:
    from firecrest_core.api.models import JobInfo

    monkeypatch.setattr("firecrest_core.watch.tracker.PROVISIONAL_GRACE", 0.3)
    # The embedded server's jobs can only fail.
    monkeypatch.setattr(
        JobInfo, "state", property(lambda row: JobState(state) if "FAILED" in str(row.raw_state) else JobState.RUNNING)
    )
    error = fails(HEAD + "echo 'last line' >&2; exit 9\n", deferrable=deferrable)
    assert isinstance(error, kind)
    for words in (f"ended {state}, exit code 9", advice, "standard error:\nlast line"):
        assert words in str(error)


@both_ways
def test_the_sensor_says_as_much_and_is_not_tried_again(
    connected: Any, workdir: Path, run_task: Any, deferrable: bool
) -> None:
    job = FirecRESTHook().submit_job(script=HEAD + "echo 'no basis set' >&2; exit 7\n", working_dir=str(workdir))
    with pytest.raises(errors.JobFailed, match="exit code 7") as failed:
        run_task(lambda: FirecRESTJobSensor(task_id="s", job_id=job.job_id, poll_interval=0.2, deferrable=deferrable))
    assert isinstance(failed.value, AirflowFailException)
    assert str(failed.value).endswith("standard error:\nno basis set")


def test_the_hook_says_which_stream_it_was(connected: Any, workdir: Path) -> None:
    hook = FirecRESTHook()
    job = hook.submit_job(script=HEAD + "echo fine; echo 'no basis set' >&2; exit 7\n", working_dir=str(workdir))
    with pytest.raises(errors.JobFailed) as failed:
        hook.wait_for_job(job, poll_interval=0.2)
    assert str(failed.value).endswith("standard error:\nno basis set")
    assert "fine" not in str(failed.value)
