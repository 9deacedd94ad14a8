"""Every recorded timeline: what the rows of a status answer say at each moment, and a wait that ends rightly.

A wait may look at any of the recorded moments, so each is judged on its own: none but the last states may be
taken for the end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from firecrest_core import errors, progress, waiting
from firecrest_core.job import Job
from firecrest_core.jobspec import JobSpec
from firecrest_core.models import JobInfo
from firecrest_core.progress import Progress
from firecrest_core.result import JobResult
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


def read(line: dict[str, Any], rows: list[JobInfo]) -> Progress:
    job = job_of(line)
    return progress.read(rows, job.job_id, job.array_indices)


@pytest.mark.parametrize("name", SUBMITTED)
def test_each_moment_is_judged(name: str) -> None:
    line = SUBMITTED[name]
    moments = answers(line)
    ended = [
        (t, now)
        for t, now in ((t, read(line, rows)) for t, rows in moments)
        if now.settled and now.complete and not now.provisional
    ]
    end = ENDS[name]
    if end is None or end[0].provisional:
        assert not ended
        return
    # From the first moment that is taken for the end on, nothing changes any more.
    assert {(now.state, now.exit_code, now.signal) for _, now in ended} == {end}
    first = ended[0][0]
    assert all(t < first for t, rows in moments if not read(line, rows).settled)


@pytest.mark.parametrize("poll_interval", [0.1, 1.0, 10.0, 60.0])
@pytest.mark.parametrize("name", [name for name, end in ENDS.items() if end is not None])
async def test_waiting_ends_rightly(name: str, poll_interval: float, mocker: MockerFixture) -> None:
    """The recording's clock runs instead of ours: a wait sees at each question what was true by then."""
    line, now = SUBMITTED[name], 0.0
    moments = answers(line)

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def get_job(system: str, job_id: str) -> list[JobInfo]:
        return [rows for t, rows in moments if t <= now + moments[0][0]][-1]

    mocker.patch.object(waiting.asyncio, "sleep", sleep)
    mocker.patch.object(waiting.time, "monotonic", side_effect=lambda: now)
    client = mocker.Mock(get_job=get_job)
    told: list[str] = []
    result = await waiting.wait(client, job_of(line), poll_interval=poll_interval, story=told.append)
    assert (result.state, result.exit_code, result.signal) == ENDS[name]
    assert told[-1] == result.story()
    assert JobResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_array_elements_are_told() -> None:
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
    assert late.settled
    assert not late.complete


def test_a_waiting_job_tells_why() -> None:
    line = SUBMITTED["bad_time"]
    now = read(line, answers(line)[-1][1])
    assert now.state.phase is Phase.WAITING
    assert now.reason == "PartitionTimeLimit"


class Waits:
    """A client whose answers are a script: rows, or errors to raise."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def get_job(self, system: str, job_id: str) -> list[JobInfo]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


def row(state: str, **fields: Any) -> JobInfo:
    return JobInfo.model_validate({"jobId": "7", "name": "ok", "status": {"state": state}, **fields})


@pytest.fixture
def fast_clock(mocker: MockerFixture) -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    mocker.patch.object(waiting.asyncio, "sleep", sleep)
    mocker.patch.object(waiting.time, "monotonic", side_effect=lambda: now)


@pytest.mark.usefixtures("fast_clock")
async def test_a_new_job_may_be_invisible_for_a_while() -> None:
    client = Waits(errors.JobNotFound("no"), errors.JobNotFound("no"), [row("COMPLETED")])
    result = await waiting.wait(client, Job(system="rig", job_id="7"))  # type: ignore[arg-type]
    assert result.succeeded


@pytest.mark.usefixtures("fast_clock")
async def test_a_job_that_stays_unknown_is_an_error() -> None:
    with pytest.raises(errors.JobNotFound):
        await waiting.wait(Waits(errors.JobNotFound("no")), Job(system="rig", job_id="7"))  # type: ignore[arg-type]


@pytest.mark.usefixtures("fast_clock")
async def test_an_outage_is_told_and_outlived() -> None:
    down = [errors.ServerUnreachable("no connection to api.example.org")] * 200
    told: list[str] = []
    client = Waits([row("RUNNING")], *down, [row("COMPLETED")])
    result = await waiting.wait(client, Job(system="rig", job_id="7"), story=told.append)  # type: ignore[arg-type]
    assert result.succeeded
    lines = [line for line in told if "still waiting" in line]
    assert 1 <= len(lines) < 15, lines  # 200 questions, hours of outage, and growing intervals between the lines
    assert any("answers again" in line for line in told)


@pytest.mark.usefixtures("fast_clock")
async def test_the_callers_limit_ends_the_wait() -> None:
    with pytest.raises(errors.WaitTimedOut, match="0:05:00"):
        await waiting.wait(Waits([row("RUNNING")]), Job(system="rig", job_id="7"), timeout=300)  # type: ignore[arg-type]


@pytest.mark.usefixtures("fast_clock")
async def test_a_preempted_job_may_come_back() -> None:
    client = Waits([row("PREEMPTED")], [row("PENDING")], [row("RUNNING")], [row("COMPLETED")])
    result = await waiting.wait(client, Job(system="rig", job_id="7"))  # type: ignore[arg-type]
    assert result.succeeded
