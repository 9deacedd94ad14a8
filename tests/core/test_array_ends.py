"""An array ends when every expected index has, whatever its rows show meanwhile, and no element's end is lost.

The rows are those of the recorded timelines: while elements wait, one row ``7_[…]`` stands for them; one that runs has
a raw id; accounting shows ``7_3`` some time after its end, and until then it is not there at all, or one row ``7``
stands for what has ended.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firecrest_core import Connection, FirecRESTClient, lifecycle
from firecrest_core.api.models import JobInfo
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, claim_identity
from firecrest_core.jobs.status import UNRECORDED_GRACE, JobStatus, parse_status, read_status
from firecrest_core.result import JobResult, index_list
from firecrest_core.spec import arrays
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST

BAD = [JobState.FAILED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY, JobState.CANCELLED]


@dataclass(frozen=True)
class Element:
    index: int
    begins: float
    ends: float
    shown: float
    state: JobState


@st.composite
def elements(draw: Any, expression: str) -> list[Element]:
    lives = []
    for index in arrays.indices(expression):
        begins = draw(st.floats(0, 200))
        ends = begins + draw(st.floats(0, 100))
        state = draw(st.sampled_from([JobState.COMPLETED] * 8 + BAD))
        lives.append(Element(index, begins, ends, ends + draw(st.floats(0, 20)), state))
    return lives


def rows(lives: list[Element], now: float, one_for_all: bool) -> list[JobInfo]:
    waiting = [str(one.index) for one in lives if now < one.begins]
    shown = [row("7_[" + ",".join(waiting) + "]", JobState.PENDING)] if waiting else []
    shown += [row(str(1000 + one.index), JobState.RUNNING) for one in lives if one.begins <= now < one.ends]
    ended = [row(f"7_{one.index}", one.state) for one in lives if one.shown <= now]
    if one_for_all and not ended and any(one.ends <= now for one in lives):
        ended = [row("7", JobState.COMPLETED)]
    return shown + ended


def row(job_id: str, state: JobState, end: float | None = None) -> JobInfo:
    return JobInfo.model_validate(
        {"jobId": job_id, "name": "sweep", "status": {"state": state.value}, "time": {"end": end and int(end)}}
    )


def parsed(states: dict[str, JobState], indices: str = "0-3") -> JobStatus:
    return parse_status([row(job_id, state) for job_id, state in states.items()], "7", Indices.parse(indices))


@pytest.mark.parametrize("others", [0, 3], ids=["alone", "among others"])
@pytest.mark.parametrize("expression", ["0-3", "1,5,9", "0-15:4", "0-99%10"])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), poll_interval=st.floats(0.1, 60.0), offset=st.floats(0, 330), one_for_all=st.booleans())
def test_every_element_is_waited_for(
    expression: str,
    others: int,
    new_site: Any,
    virtually: Any,
    data: st.DataObject,
    poll_interval: float,
    offset: float,
    one_for_all: bool,
) -> None:
    lives = data.draw(elements(expression))
    site = new_site()
    running = [row(str(9000 + number), JobState.RUNNING) for number in range(others)]
    site.single = lambda job_id, now: rows(lives, now, one_for_all) if job_id == "7" else running[:1]
    # In the list, a running element's raw id belongs to nobody.
    site.listed = lambda now: [*rows(lives, now, one_for_all), *running]

    async def scene() -> tuple[Any, float]:
        await asyncio.sleep(offset)
        watcher = site.watcher()
        waits = [asyncio.create_task(watcher.wait(Job(system="rig", job_id=one.job_id))) for one in running]
        await asyncio.sleep(0)
        job = Job(system="rig", job_id="7", array_indices=arrays.indices(expression))
        result = await watcher.wait(job, poll_interval=poll_interval)
        ended = asyncio.get_running_loop().time()
        for one in waits:
            one.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return result, ended

    result, ended = virtually(scene())
    assert [(one.index, one.state) for one in result.elements] == [(one.index, one.state) for one in lives]
    assert ended >= max(one.ends for one in lives)
    bad = {one.state for one in lives} - {JobState.COMPLETED}
    assert result.state is (JobState.COMPLETED if not bad else min(bad) if len(bad) == 1 else JobState.FAILED)


@pytest.mark.parametrize(
    ("ends", "end"),
    [
        ({JobState.COMPLETED, JobState.PREEMPTED}, JobState.PREEMPTED),
        ({JobState.COMPLETED, JobState.PREEMPTED, JobState.BOOT_FAIL}, JobState.NODE_FAIL),
        ({JobState.PREEMPTED, JobState.FAILED}, JobState.FAILED),
    ],
)
def test_an_array_that_only_lost_its_nodes_may_run_again(ends: set[JobState], end: JobState) -> None:
    rows = [row(f"7_{index}", state) for index, state in enumerate(ends)]
    seen = parse_status(rows, "7", Indices.of(range(len(ends))))
    assert (seen.all_ended, seen.state) == (True, end)


# --- elements without a record ------------------------------------------------------------------------


async def wait(site: Any, job: Job, **options: Any) -> JobResult:
    return await site.watcher().wait(job, **options)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    states=st.lists(st.sampled_from([JobState.COMPLETED] * 8 + BAD), min_size=4, max_size=4),
    missing=st.sets(st.integers(0, 3), min_size=1, max_size=3),
    late=st.booleans(),
    lag=st.floats(0, UNRECORDED_GRACE - 20),
)
def test_an_element_without_a_row_is_no_success(
    new_site: Any, virtually: Any, states: list[JobState], missing: set[int], late: bool, lag: float
) -> None:
    """Elements that were cancelled while they waited never get a row; those whose row is late do."""
    site, messages = new_site(), []
    site.single = lambda job_id, now: [
        row(f"7_{index}", state)
        for index, state in enumerate(states)
        if index not in missing or (late and now >= 10 + lag)
    ]
    job = Job(system="rig", job_id="7", array_indices=Indices.parse("0-3"))
    result = virtually(wait(site, job, on_message=messages.append))
    shown = [state for index, state in enumerate(states) if late or index not in missing]
    bad = set(shown) - {JobState.COMPLETED}
    expected = JobState.COMPLETED if late else JobState.CANCELLED
    assert result.state is (expected if not bad else min(bad) if len(bad) == 1 else JobState.FAILED)
    assert result.unrecorded == Indices.of(() if late else missing)
    assert [one.index for one in result.elements] == [0, 1, 2, 3]
    assert JobResult.from_dict(result.to_dict()) == result
    if not late:
        assert not result.succeeded
        assert {one.state for one in result.elements if one.index in missing} == {JobState.CANCELLED}
        assert f"no record of {index_list(Indices.of(missing))}: cancelled while waiting, never ran" in result.summary()
        assert result.reported_element is not None
        assert result.reported_element.index not in missing
        assert len([line for line in messages if "no record of" in line]) == 2


async def test_whoever_asks_once_sees_the_same(site: Any) -> None:
    rows = {f"7_{index}": JobState.COMPLETED for index in range(3)}
    job = Job(system="rig", job_id="7", array_indices=Indices.parse("0-3"))

    async def read(ended_ago: float) -> JobStatus:
        site.single = lambda job_id, now: [row(one, state, time.time() - ended_ago) for one, state in rows.items()]
        return await read_status(site, job)

    recent, old = await read(60), await read(UNRECORDED_GRACE + 60)
    assert (recent.state, recent.complete, recent.unrecorded) == (JobState.COMPLETING, False, Indices.parse("3"))
    assert (old.state, old.complete, old.unrecorded) == (JobState.CANCELLED, True, Indices.parse("3"))


def test_a_wait_for_a_moment_sees_the_same(site: Any, virtually: Any) -> None:
    """A sensor waits again and again with a timeout of zero."""
    ended = time.time() - UNRECORDED_GRACE - 60
    site.single = lambda job_id, now: [row(f"7_{index}", JobState.COMPLETED, ended) for index in range(3)]
    job = Job(system="rig", job_id="7", array_indices=Indices.parse("0-3"))
    assert virtually(wait(site, job, timeout=0)).state is JobState.CANCELLED


async def test_a_retry_runs_the_array_again(
    f7t: LocalFirecREST, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("jobs.status", "watch.tracker"):
        monkeypatch.setattr(f"firecrest_core.{module}.UNRECORDED_GRACE", 0.0)
    spec = JobSpec(command="until [ -e go ]; do sleep 0.1; done", working_dir=str(workdir), array="0-2%1")
    key = ClaimKey(claim_identity("sweep", workdir.name))
    async with FirecRESTClient(Connection.from_environment(f7t.environ)) as client:
        job = await lifecycle.submit(client.system(), spec, key, first_attempt=True)
        await client.system().cancel_job(str(int(job.job_id) + 2))  # the raw id of the element 1
        (workdir / "go").touch()
        result = await lifecycle.wait(client.system(), job, poll_interval=0.5)
        assert (result.state, result.unrecorded) == (JobState.CANCELLED, Indices.parse("1"))
        again = await lifecycle.submit(client.system(), spec, key)
        assert again.job_id != job.job_id
        assert (await lifecycle.wait(client.system(), again, poll_interval=0.5)).succeeded


def test_the_row_of_those_that_wait_may_be_stale() -> None:
    seen = parsed(
        {"7_0": JobState.COMPLETED, "7_1": JobState.COMPLETED, "7_[1-3%1]": JobState.CANCELLED, "7_2": JobState.FAILED}
    )
    assert (seen.all_ended, seen.complete) == (True, True)
    assert [one.state for one in seen.elements] == ["COMPLETED", "COMPLETED", "FAILED", "CANCELLED"]


@pytest.mark.parametrize(
    ("states", "complete", "state", "known"),
    [
        (["COMPLETED"] * 4, True, "COMPLETED", 0),
        (["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"], True, "FAILED", 0),
        (["COMPLETED", "COMPLETED", "CANCELLED"], False, "CANCELLED", 0),  # one row for those that waited
        (["COMPLETED"] * 3, False, "CANCELLED", 0),
    ],
)
def test_rows_that_do_not_tell_their_index(states: list[str], complete: bool, state: str, known: int) -> None:
    """The server's REST mode gives each element its raw id."""
    seen = parsed({str(7 + number): JobState(one) for number, one in enumerate(states)})
    assert (seen.all_ended, seen.complete, seen.unrecorded) == (True, complete, Indices())
    end = seen.without_late_rows()
    assert (end.state, end.complete, len(end.elements)) == (state, True, known)


def test_the_last_element_may_have_the_arrays_own_id() -> None:
    seen = parsed(
        {"7_0": JobState.COMPLETED, "7_1": JobState.COMPLETED, "7_2": JobState.COMPLETED, "7": JobState.FAILED}
    )
    assert (seen.complete, seen.state) == (True, JobState.FAILED)
    assert [one.state for one in seen.elements] == ["COMPLETED", "COMPLETED", "COMPLETED", "FAILED"]
