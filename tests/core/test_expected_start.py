"""When a waiting job is expected to start: what the scheduler says of it, and when the log does."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from firecrest_core.api.models import JobInfo
from firecrest_core.errors import WaitTimedOut
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import JobStatus, parse_status
from firecrest_core.states import JobState
from firecrest_core.watch.queue_place import expected_start


def row(
    state: str, start: int | None, *, end: int | None = None, reason: str = "", job_id: str = "7"
) -> dict[str, Any]:
    status, times = {"state": state, "stateReason": reason}, {"start": start, "end": end, "elapsed": 0, "limit": 600}
    return {"jobId": job_id, "status": status, "time": times, "account": "lp01", "partition": "normal"}


def status_of(*rows: dict[str, Any], expected: Indices | None = None) -> JobStatus:
    return parse_status([JobInfo.model_validate(one) for one in rows], "7", expected)


def test_the_start_of_a_pending_job_is_only_expected() -> None:
    status = status_of(row("PENDING", 5000, end=5600, reason="Priority"))

    assert (status.started_at, status.expected_start, status.ended_at) == (None, 5000, None)
    assert (status.account, status.partition) == ("lp01", "normal")
    assert JobStatus.deserialize(status.serialize(), 1) == status


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETED", "CONFIGURING"])
def test_any_other_start_is_a_start(state: str) -> None:
    status = status_of(row(state, 5000, end=5600))

    assert (status.started_at, status.expected_start) == (5000, None)


def test_elements_that_wait_do_not_hide_those_that_run() -> None:
    rows = row("RUNNING", 4000, job_id="7_0"), row("PENDING", 5000, job_id="7_[1-2]")

    status = status_of(*rows, expected=Indices.of([0, 1, 2]))
    assert (status.state, status.started_at, status.expected_start) == (JobState.RUNNING, 4000, None)
    status = status_of(rows[1], expected=Indices.of([1, 2]))
    assert (status.state, status.started_at, status.expected_start) == (JobState.PENDING, None, 5000)


def test_a_job_of_pbs_that_was_deleted_in_the_queue_never_started() -> None:
    """FirecREST reports F and exit status 0 for it; the expected start may still be there."""
    status = status_of(row("F", 9000, end=5000))

    assert (status.state, status.started_at) == (JobState.CANCELLED, None)


@pytest.mark.parametrize(
    ("in_seconds", "words"),
    [(None, ""), (-3600, ""), (2**52, "")],
)
def test_what_nobody_knows_is_not_said(in_seconds: int | None, words: str) -> None:
    expected = None if in_seconds is None else int(time.time()) + in_seconds

    assert expected_start(JobStatus(state=JobState.PENDING, expected_start=expected)) == words


def test_the_time_zone_and_another_day_are_said() -> None:
    at = (datetime.now(UTC) + timedelta(days=2)).replace(hour=14, minute=20)
    status = JobStatus(state=JobState.PENDING, expected_start=int(at.timestamp()))

    assert expected_start(status) == f"expected start 14:20 UTC on {at:%Y-%m-%d}"


def lines_of(site: Any, virtually: Any, queue: Callable[[float], dict[str, Any]], seconds: float) -> list[str]:
    """Return the lines of a wait; ``queue`` returns the job's row at a second."""
    site.single = lambda job_id, now: [queue(now)]
    lines: list[str] = []

    async def wait() -> None:
        await site.watcher().wait(Job(system="rig", job_id="7"), timeout=seconds, on_message=lines.append)

    with pytest.raises(WaitTimedOut):
        virtually(wait())
    return lines


def test_the_line_of_a_waiting_job(site: Any, virtually: Any) -> None:
    at = int(time.time()) + 1800

    [line] = lines_of(site, virtually, lambda now: row("PENDING", at, reason="Priority"), 300)

    assert line.startswith(
        f"Job 7 on rig: PENDING (Priority), expected start {datetime.fromtimestamp(at, UTC):%H:%M} UTC"
    )


def test_a_plan_that_changes_all_the_time_gives_a_line_a_minute_at_most(site: Any, virtually: Any) -> None:
    began = int(time.time())

    def queue(now: float) -> dict[str, Any]:
        """Each poll gives another reason, and moves the start by far."""
        odd = int(now) % 2
        return row("PENDING", began + 10_000 * (1 + odd), reason=("Priority", "Resources")[odd])

    lines = lines_of(site, virtually, queue, 3600)

    assert 30 <= len(lines) <= 62


def test_a_start_that_moves_by_little_is_no_news(site: Any, virtually: Any) -> None:
    began = int(time.time())
    lines = lines_of(site, virtually, lambda now: row("PENDING", began + 20_000 + int(now), reason="Priority"), 500)
    assert len(lines) == 1


def test_a_job_that_waits_for_long_gives_a_sign_of_life_ever_more_seldom(site: Any, virtually: Any) -> None:
    lines = lines_of(site, virtually, lambda now: row("PENDING", None, reason="Priority"), 24 * 3600)

    assert len(lines) == pytest.approx(1 + 3 + 22, abs=1)
    assert set(lines) == {"Job 7 on rig: PENDING (Priority)"}


def test_a_new_reason_is_told_at_once(site: Any, virtually: Any) -> None:
    lines = lines_of(
        site, virtually, lambda now: row("PENDING", None, reason="Priority" if now < 5 else "Resources"), 15
    )

    assert lines == ["Job 7 on rig: PENDING (Priority)", "Job 7 on rig: PENDING (Resources)"]
