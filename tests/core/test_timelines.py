"""Every recorded timeline: what the rows of a status answer say at each moment, and a wait that ends rightly.

A wait may look at any of the recorded moments, so each is judged on its own: none but the last states may be
taken for the end.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from firecrest_core import errors
from firecrest_core.api.models import JobInfo
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import JobStatus, parse_status
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState, Phase

TIMELINES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent.parent / "contract" / "timelines").glob("*.json"))
}
SUBMITTED = {name: line for name, line in TIMELINES.items() if line["response"]["status"] == 201}

# How each ends: state, exit code, signal; None where the recording stops while the job waits.
ENDS: dict[str, tuple[JobState, int, int] | None] = {
    "array": (JobState.FAILED, 1, 0),
    "array_throttled": (JobState.COMPLETED, 0, 0),
    "bad_account": (JobState.COMPLETED, 0, 0),
    "bad_time": None,
    "bad_workdir": (JobState.FAILED, 0, 53),
    "cancelled_by_root": (JobState.CANCELLED, 0, 0),
    "cancelled_pending": (JobState.CANCELLED, 0, 0),
    "cancelled_running": (JobState.CANCELLED, 0, 0),
    "completed": (JobState.COMPLETED, 0, 0),
    "deadline": None,
    "dependency_never": (JobState.CANCELLED, 0, 0),
    "failed": (JobState.FAILED, 3, 0),
    "held_then_released": (JobState.COMPLETED, 0, 0),
    "instant": (JobState.COMPLETED, 0, 0),
    "node_fail": (JobState.NODE_FAIL, 0, 0),
    "preempted_cancel": (JobState.PREEMPTED, 0, 0),
    "preempted_requeue": (JobState.COMPLETED, 0, 0),
    "requeued": (JobState.COMPLETED, 0, 0),
    "signalled": (JobState.FAILED, 0, 11),
    "steps": (JobState.COMPLETED, 0, 0),
    "suspended": (JobState.COMPLETED, 0, 0),
    "timeout": (JobState.TIMEOUT, 0, 0),
    "too_many_nodes": (JobState.CANCELLED, 0, 0),
}


def test_every_timeline_is_judged() -> None:
    assert ENDS.keys() == SUBMITTED.keys()


def job_of(line: dict[str, Any]) -> Job:
    script = line["request"]["json"]["job"]["script"]
    return Job(
        system="rig",
        job_id=line["response"]["json"]["jobId"],
        name=line["name"],
        array_indices=JobSpec(script=script, working_dir="/wd").array_indices,
    )


def answers(line: dict[str, Any]) -> list[tuple[float, list[JobInfo]]]:
    """The answers of GET jobs/{id}, with their seconds."""
    seen = [(moment["t"], moment.get("GET jobs/{id}")) for moment in line["observations"]]
    return [
        (t, [JobInfo.model_validate(row) for row in answer["json"]["jobs"]])
        for t, answer in seen
        if answer is not None and answer["status"] == 200
    ]


def read(line: dict[str, Any], rows: list[JobInfo]) -> JobStatus:
    job = job_of(line)
    return parse_status(rows, job.job_id, job.array_indices)


@pytest.mark.parametrize("name", SUBMITTED)
def test_each_moment_is_judged(name: str) -> None:
    line = SUBMITTED[name]
    moments = answers(line)
    ended = [
        (t, now)
        for t, now in ((t, read(line, rows)) for t, rows in moments)
        if now.all_ended and now.complete and not now.provisional
    ]
    end = ENDS[name]
    if end is None or end[0].provisional:
        assert not ended
        return
    # From the first moment that is taken for the end on, nothing changes any more.
    assert {(now.state, now.exit_code, now.signal) for _, now in ended} == {end}
    first = ended[0][0]
    assert all(t < first for t, rows in moments if not read(line, rows).all_ended)


def moments(line: dict[str, Any], key: str) -> list[tuple[float, list[JobInfo]]]:
    """The rows that single answers, or lists, gave from which second on."""
    seen = [(moment["t"], moment.get(key)) for moment in line["observations"]]
    rows = [(t, one["json"]["jobs"] if isinstance(one, dict) else one) for t, one in seen if one is not None]
    return sorted(((t, [JobInfo.model_validate(row) for row in found]) for t, found in rows), key=lambda one: one[0])


def on_virtual_clock(moments: list[tuple[float, list[JobInfo]]]) -> list[tuple[float, list[JobInfo]]]:
    """Without the Unix times of the ends, because the jobs ended long ago."""
    return [(t, [row.model_copy(update={"end": None}) for row in rows]) for t, rows in moments]


ANSWERS = {
    name: tuple(on_virtual_clock(moments(line, key)) for key in ("GET jobs/{id}", "GET jobs (this job's rows)"))
    for name, line in SUBMITTED.items()
}
OTHERS = [JobInfo.model_validate({"jobId": str(n), "status": {"state": "RUNNING"}}) for n in range(9001, 9004)]


def at(moments: list[tuple[float, list[JobInfo]]], now: float) -> list[JobInfo]:
    return [rows for t, rows in moments if t <= now + moments[0][0]][-1]


async def replay(site: Any, name: str, *, offset: float = 0.0, listed: bool = False, **options: Any) -> JobResult:
    """Wait for a recorded job from ``offset`` on; among others, if the list is to be asked."""
    single, rows = ANSWERS[name]
    job = job_of(SUBMITTED[name])
    site.single = lambda job_id, now: at(single, now) if job_id == job.job_id else OTHERS[:1]
    site.listed = lambda now: [*at(rows, now), *OTHERS]
    await asyncio.sleep(offset)
    watcher = site.watcher()
    others = [asyncio.create_task(watcher.wait(Job(system="rig", job_id=one.job_id))) for one in OTHERS if listed]
    await asyncio.sleep(0)
    try:
        return await watcher.wait(job, **options)
    finally:
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@pytest.mark.parametrize("listed", [False, True], ids=["alone", "among others"])
@pytest.mark.parametrize("name", [name for name, end in ENDS.items() if end is not None])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(poll_interval=0.1, offset=0.0)
@example(poll_interval=60.0, offset=0.0)
@given(poll_interval=st.floats(0.1, 60.0), offset=st.floats(0.0, 10.0) | st.floats(10.0, 140.0))
def test_waiting_ends_rightly(
    name: str, listed: bool, new_site: Any, virtually: Any, poll_interval: float, offset: float
) -> None:
    """The recording's clock runs instead of ours: a wait sees at each question what was true by then."""
    site, messages = new_site(), []
    waiting = replay(site, name, offset=offset, listed=listed, poll_interval=poll_interval, on_message=messages.append)
    result = virtually(waiting)
    assert (result.state, result.exit_code, result.signal) == ENDS[name]
    assert messages[-1] == result.summary()
    assert sum(" ended " in line for line in messages) == 1
    assert JobResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert site.most_in_flight <= 4
    assert site.clients["made"] == site.clients["closed"]


@pytest.mark.parametrize("listed", [False, True], ids=["alone", "among others"])
@pytest.mark.parametrize(
    ("name", "last_message"),
    [("bad_time", "can never start (PartitionTimeLimit)"), ("deadline", "does not start by itself (JobHeldUser)")],
)
def test_a_job_that_does_not_start_is_reported(
    name: str, last_message: str, listed: bool, site: Any, virtually: Any
) -> None:
    messages: list[str] = []
    with pytest.raises(errors.WaitTimedOut):
        virtually(replay(site, name, listed=listed, timeout=100, on_message=messages.append))
    assert last_message in messages[-1]


@pytest.mark.parametrize("listed", [False, True], ids=["alone", "among others"])
def test_a_job_that_can_never_start_ends_the_wait_if_wanted(listed: bool, site: Any, virtually: Any) -> None:
    with pytest.raises(errors.JobStuck, match="can never start") as stuck:
        virtually(replay(site, "bad_time", listed=listed, fail_if_stuck=True))
    assert stuck.value.reason == "PartitionTimeLimit"
    with pytest.raises(errors.WaitTimedOut):
        virtually(replay(site, "deadline", listed=listed, fail_if_stuck=True, timeout=100))


def test_array_elements_are_listed() -> None:
    line = SUBMITTED["array"]
    now = read(line, answers(line)[-1][1])
    assert [(e.index, e.state) for e in now.elements] == [
        (0, JobState.COMPLETED),
        (1, JobState.FAILED),
        (2, JobState.COMPLETED),
        (3, JobState.FAILED),
    ]


def test_array_is_not_over_while_an_element_is_missing() -> None:
    line = SUBMITTED["array_throttled"]
    late = read(line, answers(line)[-2][1])
    assert late.all_ended
    assert not late.complete


def test_a_waiting_job_tells_why() -> None:
    line = SUBMITTED["bad_time"]
    now = read(line, answers(line)[-1][1])
    assert now.state.phase is Phase.WAITING
    assert now.reason == "PartitionTimeLimit"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("requeued", None), ("held_then_released", None), ("dependency_never", "Dependency")],
)
def test_the_reason_for_which_a_job_has_waited_is_not_that_of_its_end(name: str, reason: str | None) -> None:
    line = SUBMITTED[name]
    now = read(line, answers(line)[-1][1])
    assert now.state.ended
    assert now.reason == reason
