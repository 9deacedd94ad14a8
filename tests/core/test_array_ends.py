"""An array ends when every expected index has, whatever its rows show meanwhile, and no element's end is lost.

The rows are those of the recorded timelines: while elements wait, one row ``7_[…]`` stands for them; one that runs has
a raw id; accounting shows ``7_3`` some time after its end, and until then it is not there at all, or one row ``7``
stands for what has ended.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firecrest_core.api.models import JobInfo
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import parse_status
from firecrest_core.spec import arrays
from firecrest_core.states import JobState

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


def row(job_id: str, state: JobState) -> JobInfo:
    return JobInfo.model_validate({"jobId": job_id, "name": "sweep", "status": {"state": state.value}})


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
    seen = parse_status([row(f"7_{index}", state) for index, state in enumerate(ends)], "7", range(len(ends)))
    assert (seen.all_ended, seen.state) == (True, end)
