"""The history of a job, and the snapshots that come of it."""

from __future__ import annotations

import time

from firecrest_core.elements import ElementGroup
from firecrest_core.indices import Indices
from firecrest_core.jobs.history import JobHistory, cancelled, story, submitted
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.snapshot import JobSnapshot
from firecrest_core.jobs.status import JobStatus
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState

JOB = Job(
    system="daint",
    job_id="57",
    name="relax",
    working_dir="/wd",
    stdout="/wd/slurm-57.out",
    stderr="/wd/slurm-57.out",
    submitted_at=1_000_000.0,
)
SPEC = JobSpec(working_dir="/wd", command="true", partition="debug")
PENDING = JobStatus(state=JobState.PENDING, reason="Priority", account="lp01", partition="normal", expected_start=7000)


def followed() -> tuple[JobHistory, list[JobSnapshot]]:
    shown: list[JobSnapshot] = []
    return JobHistory(submitted(JOB, SPEC, connection_id="firecrest_default"), shown.append), shown


def test_a_snapshot_comes_with_each_change_and_not_with_each_poll() -> None:
    history, shown = followed()
    for line, status in [
        ("PENDING (Priority)", PENDING),
        (None, PENDING),
        (None, JobStatus(state=JobState.PENDING, reason="Resources", partition="normal", account="lp01")),
        ("PENDING (Priority)", PENDING),  # the same again, as a sign of life
        ("RUNNING", JobStatus(state=JobState.RUNNING)),
        (None, JobStatus(state=JobState.RUNNING, nodes="nid001", started_at=1_000_100)),
        (None, JobStatus(state=JobState.RUNNING, nodes="nid[001-002]", started_at=1_000_100, elapsed=7)),
    ]:
        if line:
            history.on_message(line)
        history.on_status(status)

    assert [(one.state, one.nodes) for one in shown] == [
        (JobState.PENDING, ""),
        (JobState.RUNNING, ""),
        (JobState.RUNNING, "nid001"),
    ]
    first = shown[0]
    assert (first.reason, first.expected_start, first.account, first.partition) == ("Priority", 7000, "lp01", "normal")
    assert (first.connection_id, first.submitted_at, first.stdout) == ("firecrest_default", 1e6, "/wd/slurm-57.out")
    assert shown[-1].started_at == 1_000_100
    assert [line.text for line in shown[-1].history] == [
        "Job 57 (relax) was submitted to daint, in /wd.",
        "PENDING (Priority)",
        "RUNNING",
    ]


def test_a_long_history_keeps_its_beginning_and_its_end() -> None:
    history, _ = followed()
    for number in range(500):
        history.on_message(f"line {number}")

    lines = [line.text for line in history.snapshot.history]
    assert len(lines) == 50
    assert lines[:2] == ["Job 57 (relax) was submitted to daint, in /wd.", "line 0"]
    assert lines[10] == "… 452 lines are left out here …"
    assert lines[11:] == [f"line {number}" for number in range(461, 500)]


def test_the_story_at_the_end() -> None:
    history, _ = followed()
    history.on_message("Job 57 (relax) on daint: PENDING (Priority)")
    history.on_status(PENDING)
    result = JobResult(
        job_id="57",
        system="daint",
        state=JobState.FAILED,
        exit_code=3,
        submitted_at=1_000_000.0,
        started_at=1_003_600,
        elapsed=5400,
        node_seconds=10800,
        stdout="/wd/slurm-57.out",
        stderr="/wd/slurm-57.err",
    )
    history.on_end(result)
    snapshot = JobSnapshot.from_dict(history.snapshot.to_dict())

    assert (snapshot.state, snapshot.exit_code, snapshot.node_hours) == (JobState.FAILED, 3, 3.0)
    assert (snapshot.account, snapshot.expected_start, snapshot.name) == ("lp01", None, "relax")
    first, *_, times, output = story(snapshot)
    assert first == "What happened to job 57 on daint:"
    assert "  1970-01-12 13:46:40 UTC  Job 57 (relax) was submitted to daint, in /wd." in story(snapshot)
    assert times == "  It waited 1:00:00 and ran 1:30:00: 3.0000 node hours."
    assert output == "  Its output is in /wd/slurm-57.out and /wd/slurm-57.err."


def test_the_elements_of_an_array_are_counted_at_its_end() -> None:
    history, _ = followed()
    groups = (
        ElementGroup.of(Indices.of([9]), JobState.FAILED),
        ElementGroup.of(Indices.of(range(9)), JobState.COMPLETED),
    )
    history.on_end(JobResult(job_id="57", system="daint", state=JobState.FAILED, groups=groups))
    assert JobSnapshot.from_dict(history.snapshot.to_dict()).elements == "9 COMPLETED, 1 FAILED"


def test_the_story_of_a_job_that_never_ran() -> None:
    history, _ = followed()
    history.on_status(PENDING)

    assert story(history.snapshot)[-1] == "  Its output is in /wd/slurm-57.out."
    assert len(story(history.snapshot)) == 3


def test_a_cancelled_job_says_how_it_was_seen_last() -> None:
    history, _ = followed()
    history.on_status(PENDING)
    seen = history.snapshot
    job = cancelled(seen, "The limit has passed")

    assert (job.state, job.reason) == (JobState.CANCELLED, "with its task; PENDING when last seen")
    assert (job.expected_start, job.seen_at) == (None, seen.seen_at)
    assert job.ended_at is not None
    assert job.history[-1].text == "The limit has passed, so the job was cancelled. When last seen, it was PENDING."
    assert cancelled(job, "Again") == job


def test_a_cancelled_job_costs_what_it_ran_until_then() -> None:
    began = int(time.time()) - 7200
    seen = JobSnapshot(job_id="57", system="daint", state=JobState.RUNNING, started_at=began, elapsed=60, node_count=2)
    job = cancelled(seen, "The task has ended")
    assert 7200 <= job.elapsed < 7300
    assert 4 <= job.node_hours < 4.1
    waited = cancelled(JobSnapshot(job_id="57", system="daint", state=JobState.PENDING), "The task has ended")
    assert (waited.elapsed, waited.node_hours) == (None, None)
