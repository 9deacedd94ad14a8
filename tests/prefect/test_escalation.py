"""A job that is followed by others in Prefect, as its escalation policy or its chain says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from pydantic import ValidationError

from firecrest_core import Chain
from firecrest_core.campaign import Campaign
from firecrest_core.course import EarlierJob
from firecrest_core.errors import InvalidJobSpec, JobFailed, JobNodeFailure
from prefect_firecrest import FirecRESTJob, run_job, submit_job, wait_for_job

# The parent of a script is what stands for the daemon of its node.
COMMAND = "echo $SLURM_JOB_ID >> jobs; if [ $(wc -l < jobs) -lt {enough} ]; then kill -9 $PPID; exit; fi"
POLICY = {"node_failure": {"exclude": "node", "max": 2}}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that has lost its node does not come back, and no file is seen late."""
    monkeypatch.setattr("firecrest_core.watch.tracker.PROVISIONAL_GRACE", 0.0)
    monkeypatch.setattr("firecrest_core.campaign.CACHED", 0.0)


def job_of(make: Callable[..., FirecRESTJob], enough: int, **more: Any) -> FirecRESTJob:
    return make(COMMAND.replace("{enough}", str(enough)), escalate=POLICY, **more)


def test_jobs_follow_within_one_task_run(make: Callable[..., FirecRESTJob], workdir: Path, lines: Any) -> None:
    result = run_job(job_of(make, 3))
    first, second, last = lines("jobs")
    assert (result.succeeded, result.job_id) == (True, last)
    assert result.course is not None
    assert result.course.earlier_jobs == (EarlierJob(first, "node_failure"), EarlierJob(second, "node_failure"))
    assert result.course.excluded_nodes == result.nodes


CHAIN = Chain(max_jobs=5, signal="USR1@60", done="done", checkpoint="ckpt/*")


def test_a_chain_goes_on_from_its_checkpoints(make: Callable[..., FirecRESTJob], lines: Any) -> None:
    work = (
        "mkdir -p ckpt; echo $SLURM_JOB_ID >> jobs; touch ckpt/$SLURM_JOB_ID; [ $(wc -l < jobs) -lt 3 ] || touch done"
    )
    result = run_job(make(work, chain=CHAIN))
    assert (result.succeeded, result.job_id) == (True, lines("jobs")[2])
    assert result.course is not None
    assert [job.cause for job in result.course.earlier_jobs] == ["chain", "chain"]


def test_the_next_job_of_a_chain_waits_while_one_runs(
    make: Callable[..., FirecRESTJob], workdir: Path, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_ahead, ahead = Campaign._submit_ahead, []

    async def told(campaign: Campaign, key: Any, on_message: Any) -> None:
        await submit_ahead(campaign, key, ahead.append)
        (workdir / f"ahead-{key.generation + 1}").touch()

    monkeypatch.setattr(Campaign, "_submit_ahead", told)
    work = (
        "mkdir -p ckpt; echo $SLURM_JOB_ID >> jobs; touch ckpt/$SLURM_JOB_ID; n=$(wc -l < jobs);"
        "until [ -e ahead-$n ]; do sleep 0.1; done; [ $n -lt 3 ] || touch done"
    )
    result = run_job(make(work, chain=replace(CHAIN, ahead=True), time_limit=10))
    assert (result.succeeded, result.job_id) == (True, lines("jobs")[2])
    assert [line.split()[1] for line in ahead][:2] == lines("jobs")[1:]
    assert len(ahead) == 3


def test_a_chain_without_progress_is_not_retried(make: Callable[..., FirecRESTJob], lines: Any) -> None:
    with pytest.raises(JobFailed, match="done is not there yet, and it has left no new checkpoint") as failed:
        run_job(make("echo $SLURM_JOB_ID >> jobs", chain=CHAIN.to_dict()))
    assert not failed.value.retryable
    assert len(lines("jobs")) == 1


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
        ({"exactly_once": False, "escalate": POLICY}, "escalate: .*leave exactly_once on"),
        ({"exactly_once": False, "chain": CHAIN}, "chain: .*leave exactly_once on"),
        ({"chain": {"max_jobs": 3}}, "chain: .*the form is Chain"),
        ({"chain": CHAIN, "signal": "TERM@60"}, "chain: signal is 'USR1@60', and that of the job"),
    ],
)
def test_what_cannot_be_right_is_refused_with_the_block(
    make: Callable[..., FirecRESTJob], fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        make(command="true", **fields)


@pytest.mark.parametrize(
    ("field", "wrong", "words"),
    [
        ("escalate", {"out_of_mem": {}}, "escalate: 'out_of_mem' is no cause; did you mean 'out_of_memory'"),
        ("chain", {"checkpoints": "ckpt/*"}, "chain: 'checkpoints' is no field of it; did you mean 'checkpoint'"),
        ("alternatives", [{"queue": "debug"}], "alternatives: 1: queue: .*did you mean 'partition'"),
    ],
)
def test_what_has_a_wrong_form_is_refused_where_it_is_written(
    make: Callable[..., FirecRESTJob], field: str, wrong: Any, words: str
) -> None:
    job = make(command="true")
    with pytest.raises(InvalidJobSpec, match=words):
        setattr(job, field, wrong)
    assert getattr(job, field) is None


def test_a_chain_that_is_assigned_is_stored_as_json(make: Callable[..., FirecRESTJob]) -> None:
    job = make(command="true")
    job.chain = CHAIN  # type: ignore[assignment]
    assert job.chain == CHAIN.to_dict()
