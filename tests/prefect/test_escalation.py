"""A job that is followed by others in Prefect, as its escalation policy says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from pydantic import ValidationError

from firecrest_core.course import EarlierJob
from firecrest_core.errors import JobNodeFailure
from prefect_firecrest import FirecRESTJob, run_job, submit_job, wait_for_job

# The parent of a script is what stands for the daemon of its node.
COMMAND = "echo $SLURM_JOB_ID >> jobs; if [ $(wc -l < jobs) -lt {enough} ]; then kill -9 $PPID; exit; fi"
POLICY = {"node_failure": {"exclude": "node", "max": 2}}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that has lost its node does not come back."""
    monkeypatch.setattr("firecrest_core.watch.tracker.PROVISIONAL_GRACE", 0.0)


def job_of(make: Callable[..., FirecRESTJob], enough: int, **more: Any) -> FirecRESTJob:
    return make(COMMAND.replace("{enough}", str(enough)), escalate=POLICY, **more)


def test_jobs_follow_within_one_task_run(make: Callable[..., FirecRESTJob], workdir: Path, lines: Any) -> None:
    result = run_job(job_of(make, 3))
    first, second, last = lines("jobs")
    assert (result.succeeded, result.job_id) == (True, last)
    assert result.course is not None
    assert result.course.earlier_jobs == (EarlierJob(first, "node_failure"), EarlierJob(second, "node_failure"))
    assert result.course.excluded_nodes == result.nodes


def test_a_bound_is_not_retried(make: Callable[..., FirecRESTJob], lines: Any) -> None:
    @flow
    def bounded() -> None:
        wait_for_job(submit_job(job_of(make, 9)))

    with pytest.raises(JobNodeFailure, match="Before it, 2 jobs have lost a node") as failed:
        bounded()
    assert not failed.value.retryable
    assert len(lines("jobs")) == 3


def test_a_run_that_began_before_the_last_job_finds_it(make: Callable[..., FirecRESTJob], lines: Any) -> None:
    @flow
    def twice() -> tuple[str, str]:
        run = submit_job(job_of(make, 2))
        other = run.__copy__()
        return wait_for_job(run).job_id, wait_for_job(other).job_id

    assert twice() == (lines("jobs")[-1],) * 2
    assert len(lines("jobs")) == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"escalate": {"oom": {}}}, "escalate: 'oom' is no cause"),
        ({"escalate": {"out_of_memory": {"memory": "x2", "max": "4G"}}}, "memory: missing"),
        ({"memory": "8G", "escalate": {"out_of_memory": {"memory": "x2", "max": "4G"}}}, "max is 4G, and the job"),
        ({"exactly_once": False, "escalate": POLICY}, "leave exactly_once on"),
    ],
)
def test_what_cannot_be_right_is_refused_with_the_block(
    make: Callable[..., FirecRESTJob], fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        make(command="true", **fields)
