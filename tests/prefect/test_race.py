"""A job that waits in several queues at once, in Prefect."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from prefect import flow
from pydantic import ValidationError

from firecrest_core.errors import ConfigurationError, JobStuck
from prefect_firecrest import FirecRESTJob, run_job, submit_job, wait_for_job

COMMAND = "echo $SLURM_JOB_ID >> jobs"
# The partition debug never starts a job of more than half an hour.
NEVER = {"partition": "debug", "time_limit": timedelta(hours=1)}


def test_the_first_that_begins_runs(make: Callable[..., FirecRESTJob], lines: Any) -> None:
    @flow
    def raced() -> tuple[str, str]:
        run = submit_job(make(COMMAND, alternatives=[NEVER, {"partition": "normal"}]))
        other = run.__copy__()
        return wait_for_job(run).job_id, wait_for_job(other).job_id

    assert raced() == (*lines("jobs"),) * 2


def test_the_result_says_where_it_ran(make: Callable[..., FirecRESTJob], lines: Any) -> None:
    result = run_job(make(COMMAND, alternatives=[NEVER, {"partition": "normal"}]))
    assert (result.succeeded, [result.job_id]) == (True, lines("jobs"))
    assert result.partition in ("normal", "")  # the accounting may not say it yet


def test_where_none_can_ever_start_it_fails_if_wanted(make: Callable[..., FirecRESTJob]) -> None:
    run = make(COMMAND, alternatives=[NEVER, {**NEVER, "time_limit": 90}]).trigger()
    with pytest.raises(JobStuck, match="can never start"):
        run.wait_for_completion(fail_if_stuck=True)
    run.cancel()


def test_a_flow_is_not_suspended_for_it(make: Callable[..., FirecRESTJob]) -> None:
    @flow
    def suspended() -> None:
        run_job(make(COMMAND, alternatives=[NEVER]), wait="suspend")

    with pytest.raises(ConfigurationError, match="leaves nobody to cancel the other alternatives"):
        suspended()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"alternatives": []}, "alternatives: a list of at least one"),
        ({"alternatives": [{"queue": "debug"}]}, "alternatives: 1: queue: .*did you mean 'partition'"),
        ({"alternatives": [{"script": "#!/bin/sh"}]}, "alternatives: 1: script: all alternatives run the same"),
        ({"alternatives": [NEVER], "array": "0-3"}, "alternatives: the elements of an array"),
        ({"alternatives": [NEVER], "exactly_once": False}, "alternatives: .*leave exactly_once on"),
        (
            {"alternatives": [NEVER], "escalate": {"preempted": "wait"}},
            "escalate: it says what follows one job, and alternatives",
        ),
    ],
)
def test_what_cannot_be_right_is_refused_with_the_block(
    make: Callable[..., FirecRESTJob], fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        make(command="true", **fields)
