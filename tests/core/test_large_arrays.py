"""Large arrays, and rows that no scheduler writes: they cost no more than small ones, and their results are small.

Costs are counted in lines of Python that run, so that they are the same on any machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from firecrest_core.api.models import JobInfo
from firecrest_core.elements import ElementGroup, shorten
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import parse_status
from firecrest_core.result import JobResult
from firecrest_core.states import JobState

SMALL = 10_000  # bytes


def row(job_id: str, state: str, **more: Any) -> JobInfo:
    return JobInfo.model_validate({"jobId": job_id, "status": {"state": state, "exitCode": 1}, **more})


def lines(work: Callable[[], Any]) -> int:
    """Return how many lines of Python some work takes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("listed", ["57_[0-{last}]", "57_[3-{last}%50]", "57_[0-{last}:2]", "57_[1,5,9,...]", "57_7"])
@pytest.mark.parametrize("state", ["PENDING", "CANCELLED", "COMPLETED"])
def test_a_poll_costs_the_same_for_any_array(listed: str, state: str) -> None:
    def cost(size: int) -> int:
        job = Job(system="rig", job_id="57", array_indices=Indices.parse(f"0-{size - 1}"))
        rows = [row(listed.format(last=size - 1), state), row("58", "RUNNING")]
        return lines(lambda: parse_status(rows, "57", job.array_indices))

    cost(100)  # fills caches
    assert max(cost(4_000_000), cost(100_000)) < 1.1 * cost(100)


@pytest.mark.parametrize(
    "odd",
    [
        *("57_[0-4000000]", "57_[5-1]", "57_[0-10:0]", "57_[0-1000000000000000000]", "57_1000000000000000000"),
        *("57_[", "57_[]", "57_", "57_[-1]", "57_[0-3", "57_٣", "57_" + "9" * 5000, "57_[" + "9" * 5000 + "]"),
        *("57_" * 5000, "57_[" * 5000),
        "57_[" + ",".join(f"0-4000000:{step}" for step in (2, 3, 5, 7, 11, 13, 17, 19)) + "]",
        "57_[" + ",".join(map(str, range(0, 400_000, 2))) + "]",
    ],
    ids=lambda odd: odd[:30],
)
@pytest.mark.parametrize("state", ["PENDING", "COMPLETED"])
@pytest.mark.parametrize("expected", [None, "0-9"])
def test_an_odd_row_hurts_nothing(odd: str, state: str, expected: str | None) -> None:
    rows = [row(odd, state), row("57_1", "FAILED")]
    indices = None if expected is None else Indices.parse(expected)
    seen = []
    assert lines(lambda: seen.append(parse_status(rows, "57", indices))) < 2000
    status = seen[0]
    assert status.all_ended == (state == "COMPLETED")
    assert ElementGroup.of(Indices.parse("1"), JobState.FAILED, 1) in status.groups
    if indices is not None:
        assert not Indices.joined(group.indices for group in status.groups) - indices
    assert "None" not in str(status.without_late_rows().groups[0].indices)


def test_rows_with_ranges_that_together_overlap_too_much() -> None:
    rows = [row(f"57_[0-4000000:{step}]", "PENDING") for step in range(2, 40)]
    assert parse_status(rows, "57", Indices.parse("0-9")).state is JobState.PENDING
    assert parse_status(rows, "57").state is JobState.PENDING


def ends(count: int, end: Callable[[int], tuple[str, int]]) -> list[JobInfo]:
    rows = []
    for index in range(count):
        state, code = end(index)
        rows.append(row(f"57_{index}", state).model_copy(update={"exit_code": code, "nodes": f"nid{index:06}"}))
    return rows


async def wait(site: Any, job: Job) -> JobResult:
    result: JobResult = await site.watcher().wait(job, provisional_grace=0.0)
    return result


BAD = ["FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED", "NODE_FAIL", "DEADLINE", "PREEMPTED"]
#: How the elements end, by index.
ENDS: dict[str, Callable[[int], tuple[str, int]]] = {
    "well": lambda index: ("COMPLETED", 0),
    "one fails": lambda index: ("FAILED", 2) if index == 77 else ("COMPLETED", 0),
    "some fail": lambda index: ("FAILED", 1) if index * 7919 % 10_007 < 300 else ("COMPLETED", 0),
    "every other fails": lambda index: ("FAILED", 1) if index % 2 else ("COMPLETED", 0),
    "in many ways": lambda index: (BAD[index * 7919 % 7], index * 104_729 % 256),
    "with huge codes": lambda index: ("FAILED", 2**52 - index),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_result_of_a_large_array_is_small(how: str, site: Any, virtually: Any) -> None:
    rows = ends(10_000, ENDS[how])
    site.single = lambda job_id, now: rows
    job = Job(system="rig", job_id="57", name="sweep", working_dir="/wd", array_indices=Indices.parse("0-9999"))
    result = virtually(wait(site, job))
    text = json.dumps(result.to_dict())
    assert len(text) < SMALL
    assert JobResult.from_dict(json.loads(text)) == result
    assert len(result.summary()) < 2500
    assert len(result.nodes) < 1100
    bad = [index for index in range(10_000) if ENDS[how](index)[0] != "COMPLETED"]
    assert sum(result.element_counts.values()) == 10_000
    assert result.element_counts.get(JobState.COMPLETED, 0) == 10_000 - len(bad)
    assert list(result.failed_indices) == [one.index for one in result.failed_elements]
    assert set(result.failed_indices) <= set(bad)
    if len(bad) <= 300:
        assert list(result.failed_indices) == bad
    assert result.reported_element is not None
    assert result.reported_element.index == (bad or [0])[0]
    assert len(json.dumps(job.to_dict())) < 500


def test_an_array_of_usual_size_keeps_all_its_elements(site: Any, virtually: Any) -> None:
    rows = ends(100, lambda index: (BAD[index % 7], index % 4) if index % 3 == 0 else ("COMPLETED", 0))
    site.single = lambda job_id, now: rows
    result = virtually(wait(site, Job(system="rig", job_id="57", array_indices=Indices.parse("0-99"))))
    assert [one.index for one in result.elements] == list(range(100))
    assert [(one.state, one.exit_code) for one in result.elements] == [(row.state, row.exit_code) for row in rows]
    assert (str(result.failed_indices), len(result.failed_elements)) == (",".join(map(str, range(0, 100, 3))), 34)


def test_what_failed_comes_first_when_there_is_no_room_for_all() -> None:
    failed, good = Indices.of(range(0, 1000, 2)), Indices.of(range(1, 1000, 2))
    groups = shorten([ElementGroup.of(good, JobState.COMPLETED, 0), ElementGroup.of(failed, JobState.FAILED, 1)])
    assert [(group.state, group.count) for group in groups] == [(JobState.FAILED, 500), (JobState.COMPLETED, 500)]
    assert groups[0].indices == failed
    assert 0 < len(groups[1].indices) < 500


def test_a_record_holds_ranges() -> None:
    job = Job(system="rig", job_id="57", array_indices=Indices.parse("0-9999"))
    assert job.to_dict()["array_indices"] == "0-9999"
    assert Job.from_dict(json.loads(json.dumps(job.to_dict()))) == job
