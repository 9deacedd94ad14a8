"""Which failures are tried again, with the exceptions that end a task."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, RetryAction
from airflow.sdk.exceptions import AirflowException, AirflowTaskTimeout
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_firecrest.exceptions import from_event, task_error, to_event
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from airflow_provider_firecrest.retry_policy import FirecRESTRetryPolicy
from firecrest_core import errors
from firecrest_core.result import JobResult
from firecrest_core.states import JobState

RETRY, FAIL, DEFAULT = RetryAction.RETRY, RetryAction.FAIL, RetryAction.DEFAULT


def decision(error: BaseException) -> Any:
    return FirecRESTRetryPolicy().evaluate(error, 1, 3, None)


@pytest.mark.parametrize(
    ("state", "action"),
    [
        ("NODE_FAIL", RETRY),
        ("BOOT_FAIL", RETRY),
        ("PREEMPTED", RETRY),
        ("FAILED", FAIL),
        ("OUT_OF_MEMORY", FAIL),
        ("TIMEOUT", FAIL),
        ("DEADLINE", FAIL),
        ("CANCELLED", FAIL),
        ("REVOKED", FAIL),
    ],
)
def test_jobs(state: str, action: RetryAction) -> None:
    result = JobResult(job_id="57", system="daint", state=JobState(state))
    failed = errors.JobFailed.kind(result.state)(result)
    for error in (failed, task_error(failed)):  # from the hook's coroutines, and from a task
        decided = decision(error)
        assert decided.action is action
        assert type(error).__name__ in decided.reason
        assert decided.retry_delay == (timedelta(minutes=1) if action is RETRY else None)


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (errors.ServerUnreachable("no connection"), RETRY),
        (errors.SystemUnhealthy("unhealthy"), RETRY),
        (errors.RateLimited("too many", retry_after=3), RETRY),
        (errors.TransferFailed("cut short"), RETRY),
        (errors.SubmissionRejected("invalid account"), FAIL),
        (errors.AuthenticationFailed("wrong secret"), FAIL),
        (errors.RemotePathNotFound("no such file"), FAIL),
        (errors.InvalidJobSpec("nodes", "is negative"), FAIL),
        (errors.SubmissionUnknown("lost"), FAIL),
        (errors.WaitTimedOut("an hour"), DEFAULT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_errors_from_worker_and_trigger(error: errors.FirecRESTError, action: RetryAction) -> None:
    assert decision(task_error(error)).action is action
    assert decision(from_event(to_event(error))).action is action


def test_what_is_not_ours() -> None:
    assert decision(ValueError("a bug")).action is DEFAULT
    assert decision(AirflowException("a lost trigger")).action is DEFAULT
    assert decision(AirflowTaskTimeout("execution_timeout")).action is FAIL


# The batch script's parent watches the job: without it, it is unknown how the job ended.
LOST = """#!/bin/bash
echo $SLURM_JOB_ID >> runs
[ $(wc -l < runs) -gt 1 ] && exit $(cat exit_code)
kill -9 $PPID
"""


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_a_node_that_fails_and_then_a_script_that_does(
    connected: Any, workdir: Path, run_task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    monkeypatch.setattr("firecrest_core.watch.tracker.PROVISIONAL_GRACE", 0.5)
    (workdir / "exit_code").write_text("3")

    def make() -> FirecRESTSubmitOperator:
        return FirecRESTSubmitOperator(
            task_id="job", script=LOST, working_dir=str(workdir), poll_interval=0.2, deferrable=deferrable
        )

    with pytest.raises(errors.JobNodeFailure, match="NODE_FAIL") as lost:
        run_task(make)
    assert decision(lost.value).action is RETRY
    with pytest.raises(errors.JobFailed, match="exit code 3") as bad:
        run_task(make)
    assert decision(bad.value).action is FAIL
    assert len((workdir / "runs").read_text().split()) == 2  # a generation each


def test_it_is_a_parameter_of_a_task_or_of_all() -> None:
    policy = FirecRESTRetryPolicy(delay=timedelta(seconds=5))
    with DAG("d", schedule=None, default_args={"retries": 3, "retry_policy": policy}) as dag:
        task = FirecRESTSubmitOperator(task_id="one", script="#!/bin/sh\n", working_dir="/w")
        FirecRESTSubmitOperator.partial(task_id="many", working_dir="/w").expand(script=["#!/bin/sh\n"])
    assert task.retry_policy is policy
    serialized = DagSerialization.to_dict(dag)
    assert "FirecRESTRetryPolicy" not in str(serialized)  # Airflow keeps a flag; the worker has the DAG's file
    assert str(serialized).count("'has_retry_policy': True") >= 2
