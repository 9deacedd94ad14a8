"""One watcher for many jobs: what it asks, when, and what each waiter hears, on a clock that needs no waiting."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import json
import random
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from firecrest_core import errors, lifecycle, loop_worker
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from firecrest_core.watch.watcher import JobWatcher
from firecrest_local import LocalFirecREST, Settings

CONNECTION = Connection(
    url="https://api.example.org", token_url="https://id.example.org", client_id="me", client_secret="secret"
)
DOWN = errors.ServerUnreachable("no connection to api.example.org")
UNKNOWN = errors.JobNotFound("Job not found.")


def row(state: str, job_id: str = "7", **fields: Any) -> dict[str, Any]:
    return {
        "jobId": job_id,
        "name": "ok",
        "status": {"state": state, "stateReason": fields.pop("reason", None)},
    } | fields


def job(number: int | str = 7, **fields: Any) -> Job:
    return Job(system="rig", job_id=str(number), **fields)


def states(*changes: tuple[float, str]) -> Callable[[float], str]:
    """The state as a function of the time."""
    return lambda now: [state for since, state in changes if since <= now][-1]


def fill(site: Any, life: Callable[[int, float], str], count: int) -> list[Job]:
    """Jobs 1 to ``count``, in the list and alone, whose states ``life(number, now)`` tells; '' is unlisted."""
    site.single = lambda job_id, now: [row(life(int(job_id), now) or "COMPLETED", job_id)]
    site.listed = lambda now: [row(life(n, now), str(n)) for n in range(1, count + 1) if life(n, now)]
    return [job(number) for number in range(1, count + 1)]


async def all_of(site: Any, jobs: list[Job], **options: Any) -> list[Any]:
    return await asyncio.gather(*(site.watcher().wait(one, **options) for one in jobs))


def script(site: Any, *answers: Any) -> None:
    """Answer single questions one after the other, the last one for ever."""
    given = itertools.chain(answers, itertools.repeat(answers[-1]))
    site.single = lambda job_id, now: next(given)


# --- one job ------------------------------------------------------------------------------------------


def test_a_new_job_may_be_invisible_for_a_while(site: Any, virtually: Any) -> None:
    script(site, UNKNOWN, UNKNOWN, [row("COMPLETED")])
    assert virtually(all_of(site, [job()]))[0].succeeded


@pytest.mark.parametrize("answer", [UNKNOWN, []], ids=["404", "no rows"])
@pytest.mark.parametrize("grace", [None, 5.0, 600.0])
def test_a_job_that_stays_unknown_is_an_error(site: Any, virtually: Any, grace: float | None, answer: Any) -> None:
    script(site, answer)
    with pytest.raises(errors.JobNotFound):
        virtually(all_of(site, [job()], not_found_grace=grace))
    assert (grace or 60) < site.asked[-1][0] < (grace or 60) + 11


def test_a_job_that_is_no_longer_known_is_named_with_its_claim(site: Any, virtually: Any) -> None:
    script(site, UNKNOWN)
    key = ClaimKey(identity="task", epoch=3)
    one = job(name="relax", working_dir="/wd", key=key, submitted_at=1.0)
    with pytest.raises(errors.JobNotFound) as raised:
        virtually(all_of(site, [one]))
    message = str(raised.value)
    for words in (
        f"{one} on",
        "the scheduler no longer knows it",
        "Its claim is in /wd/.firecrest/task/3.0",
        "see /wd",
    ):
        assert words in message


def test_what_keeps_a_job_from_starting_is_a_warning(site: Any, virtually: Any) -> None:
    script(site, [row("PENDING", reason="PartitionTimeLimit")])
    messages: list[str] = []
    warnings: list[str] = []
    with pytest.raises(errors.WaitTimedOut):
        virtually(all_of(site, [job()], timeout=60, on_message=messages.append, on_warning=warnings.append))
    assert [one for one in messages if "never" in one] == []
    assert len(warnings) == 1
    assert "can never start (PartitionTimeLimit)" in warnings[0]
    assert "scancel" not in warnings[0]


def test_the_callers_limit_ends_the_wait(site: Any, virtually: Any) -> None:
    script(site, [row("RUNNING")])
    with pytest.raises(errors.WaitTimedOut, match="0:05:00"):
        virtually(all_of(site, [job()], timeout=300))


def test_the_callers_limit_is_named_as_it_was_given(site: Any, virtually: Any, mocker: Any) -> None:
    script(site, [row("RUNNING")])

    async def scene() -> None:
        mocker.patch.object(JobWatcher, "shared", return_value=site.watcher())
        await lifecycle.wait(mocker.Mock(), job(), timeout=300)

    with pytest.raises(errors.WaitTimedOut, match=r"has not ended within 0:05:00\."):
        virtually(scene())


def test_what_was_waited_already_counts(site: Any, virtually: Any) -> None:
    script(site, [row("RUNNING")])

    async def scene() -> float:
        with pytest.raises(errors.WaitTimedOut, match="0:05:00"):
            await site.watcher().wait(job(), timeout=300, waited=290)
        return asyncio.get_running_loop().time()

    assert 10 <= virtually(scene()) < 11


def test_a_timeout_of_zero_asks_once(site: Any, virtually: Any) -> None:
    script(site, [row("RUNNING")])
    with pytest.raises(errors.WaitTimedOut):
        virtually(all_of(site, [job()], timeout=0))
    assert len(site.asked) == 1
    script(site, [row("COMPLETED")])
    assert virtually(all_of(site, [job()], timeout=0))[0].succeeded


def test_each_answer_is_handed_on_until_the_end(site: Any, virtually: Any) -> None:
    script(site, UNKNOWN, [row("PENDING")], [row("RUNNING")], [row("RUNNING")], [row("COMPLETED")])
    seen: list[JobState] = []
    virtually(all_of(site, [job()], on_status=lambda found: seen.append(found.state)))
    assert seen == [JobState.PENDING, JobState.RUNNING, JobState.RUNNING]


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", "BOOT_FAIL"])
def test_a_provisional_end(site: Any, virtually: Any, state: str) -> None:
    script(site, [row(state)], [row("PENDING")], [row("RUNNING")], [row("COMPLETED")])
    assert virtually(all_of(site, [job()]))[0].succeeded
    site.asked.clear()
    script(site, [row(state)])
    assert virtually(all_of(site, [job()], provisional_grace=300))[0].state == state
    assert 300 < site.asked[-1][0] < 311


def test_the_end_of_a_job_of_somebody_else_tells_its_name_and_directory(site: Any, virtually: Any) -> None:
    alone = row("COMPLETED", workingDirectory="") | {"name": "allocation"}
    script(site, [alone], [alone], [row("COMPLETED", workingDirectory="/wd")])
    result = virtually(all_of(site, [job()]))[0]
    assert (result.name, result.working_dir) == ("ok", "/wd")
    script(site, [alone])
    assert virtually(all_of(site, [job(name="relax", working_dir="/wd")]))[0].name == "relax"
    assert site.asked[-1][0] < 1
    assert virtually(all_of(site, [job()]))[0].succeeded  # should the accounting never have it


def test_it_is_asked_often_when_young_after_a_change_and_near_the_limit(site: Any, virtually: Any) -> None:
    now = states((0, "PENDING"), (3000, "RUNNING"), (3600 + 2400, "COMPLETED"))
    clock = {"time": {"limit": 2400}}
    site.single = lambda job_id, t: [
        row(now(t), time={"elapsed": int(max(0, t - 3000)), "limit": 2400} if now(t) == "RUNNING" else clock["time"])
    ]
    virtually(all_of(site, [job()], poll_interval=60.0))
    times = [t for t, _ in site.asked]
    gaps = {t: later - t for t, later in itertools.pairwise(times)}
    assert all(gap < 1.1 for t, gap in gaps.items() if t < 9)
    assert all(50 < gap < 61 for t, gap in gaps.items() if 700 < t < 2940)
    running = next(t for t in times if t >= 3000)
    assert gaps[running] < 1.1
    assert all(50 < gap < 61 for t, gap in gaps.items() if running + 700 < t < 4700)
    assert min(gap for t, gap in gaps.items() if 5300 < t < 5400) < 1.2  # its limit is near
    assert all(50 < gap < 61 for t, gap in gaps.items() if 6000 > t > 5400 + 700)  # and long past


# --- many jobs ----------------------------------------------------------------------------------------


def test_one_list_serves_all(site: Any, virtually: Any) -> None:
    jobs = fill(site, lambda n, now: "RUNNING" if now < 1000 else "COMPLETED", 300)
    results = virtually(all_of(site, jobs))
    assert all(result.succeeded for result in results)
    lists = [what for what in site.counted if what.startswith("list")]
    assert lists == ["list 1h"]
    assert site.counted["list 1h"] < 200
    assert {site.counted[one.job_id] for one in jobs} == {1}  # its end, confirmed
    assert site.most_in_flight == 4
    assert site.clients == {"made": 1, "closed": 1}


def test_two_jobs_are_asked_one_by_one(site: Any, virtually: Any) -> None:
    virtually(all_of(site, fill(site, lambda n, now: "RUNNING" if now < 50 else "COMPLETED", 2)))
    assert set(site.counted) == {"1", "2"}


def test_absent_is_not_gone(site: Any, virtually: Any) -> None:
    """The first job is never listed, the second is missing for a moment while it runs."""

    def listed(n: int, now: float) -> str:
        missing = n == 1 or (n == 2 and 30 < now < 30.5)
        return "" if missing else "RUNNING" if now < 100 else "COMPLETED"

    jobs = fill(site, listed, 5)
    site.single = lambda job_id, now: [row("RUNNING" if now < 100 else "COMPLETED", job_id)]
    assert all(result.succeeded for result in virtually(all_of(site, jobs)))
    assert site.counted["2"] == 1
    asked = next(t for t, what in site.asked if what == "1")
    assert len([t for t, what in site.asked if what.startswith("list") and t < asked]) == 2


def test_the_end_in_the_list_is_confirmed(site: Any, virtually: Any) -> None:
    """The list says so too early, as recorded of a job that was suspended; and a row may be cut off in between."""
    jobs = fill(site, lambda n, now: "COMPLETED" if n == 1 else "RUNNING" if now < 90 else "COMPLETED", 4)
    site.single = lambda job_id, now: [
        row("RUNNING" if now < 60 else "FAILED" if job_id == "1" else "COMPLETED", job_id)
    ]
    results = virtually(all_of(site, jobs))
    assert [result.state for result in results] == [JobState.FAILED, *[JobState.COMPLETED] * 3]


def test_a_job_that_vanishes_between_list_and_question(site: Any, virtually: Any) -> None:
    jobs = fill(site, lambda n, now: "COMPLETED", 3)
    site.single = lambda job_id, now: UNKNOWN if now < 30 else [row("COMPLETED", job_id)]
    assert all(result.succeeded for result in virtually(all_of(site, jobs)))


def test_arrays_in_the_list(site: Any, virtually: Any) -> None:
    """Raw ids of running elements belong to nobody known; the end needs every index."""
    rows = states((0, "start"), (20, "half"), (40, "end"))
    lists = {
        "start": [row("PENDING", "7_[0-2]"), row("RUNNING", "8")],
        "half": [row("COMPLETED", "7_0"), row("COMPLETED", "7_1")],
        "end": [row("COMPLETED", "7_0"), row("COMPLETED", "7_1"), row("FAILED", "7_2")],
    }
    others = [row("RUNNING", str(n)) for n in (91, 92)]
    site.listed = lambda now: [*lists[rows(now)], *(others if now < 90 else [])]
    site.single = lambda job_id, now: lists[rows(now)] if job_id == "7" else [row("COMPLETED", job_id)]
    jobs = [job(7, array_indices=Indices.parse("0-2")), job(91), job(92)]
    result = virtually(all_of(site, jobs))[0]
    assert result.state is JobState.FAILED
    assert [one.state for one in result.elements] == ["COMPLETED", "COMPLETED", "FAILED"]


@pytest.mark.parametrize(
    ("age_h", "window"), [(0, "1h"), (0.95, "8h"), (5, "8h"), (20, "24h"), (30, "3d"), (100, "7d"), (1000, "7d")]
)
def test_the_window_covers_the_oldest(site: Any, virtually: Any, age_h: float, window: str) -> None:
    jobs = [replace(one, submitted_at=time.time()) for one in fill(site, lambda n, now: "COMPLETED", 4)]
    jobs[0] = replace(jobs[0], submitted_at=time.time() - age_h * 3600)
    jobs[1] = replace(jobs[1], submitted_at=0.0)
    virtually(all_of(site, jobs))
    assert f"list {window}" in site.counted


def test_the_interval_grows_while_nothing_moves_and_the_shortest_wins(site: Any, virtually: Any) -> None:
    async def scene() -> None:
        waits = asyncio.create_task(all_of(site, jobs, poll_interval=60.0))
        await asyncio.sleep(2000)
        site.asked.clear()
        await asyncio.sleep(600)
        assert 10 <= len(site.asked) <= 13
        site.asked.clear()
        hasty = asyncio.create_task(site.watcher().wait(job(1), poll_interval=5.0))
        await asyncio.sleep(600)
        assert 120 <= len(site.asked) <= 170
        hasty.cancel()
        await asyncio.sleep(200)
        site.asked.clear()
        await asyncio.sleep(600)
        assert 10 <= len(site.asked) <= 13
        waits.cancel()

    jobs = fill(site, lambda n, now: "PENDING", 10)
    virtually(scene())


def test_a_slow_list_is_asked_for_seldom(site: Any, virtually: Any) -> None:
    site.latency = 0.8
    jobs = fill(site, lambda n, now: "RUNNING" if now < 2000 + n else "COMPLETED", 100)  # one ends each second
    virtually(all_of(site, jobs, poll_interval=60.0))
    lists = [t for t, what in site.asked if what.startswith("list")]
    assert min(later - t for t, later in itertools.pairwise(lists)) > 0.8 * 9 * 0.99


# --- who comes and goes -----------------------------------------------------------------------------


def test_a_newcomer_is_served_at_once_and_many_share_a_round(site: Any, virtually: Any) -> None:
    async def scene() -> None:
        waits = [asyncio.create_task(site.watcher().wait(one, poll_interval=60.0)) for one in jobs[:50]]
        await asyncio.sleep(3000)
        site.asked.clear()
        for one in jobs[50:]:
            waits.append(asyncio.create_task(site.watcher().wait(one, poll_interval=60.0, on_message=messages.append)))
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.5)
        assert len(messages) == 50
        assert len(site.asked) <= 4
        for one in waits:
            one.cancel()

    messages: list[str] = []
    jobs = fill(site, lambda n, now: "RUNNING", 100)
    virtually(scene())


def test_a_wait_added_while_a_poll_is_in_flight(site: Any, virtually: Any) -> None:
    async def scene() -> None:
        waits = [asyncio.create_task(site.watcher().wait(one, poll_interval=600.0)) for one in jobs[:4]]
        await asyncio.sleep(1.0)  # the list is under way
        waits.append(asyncio.create_task(site.watcher().wait(jobs[4], poll_interval=600.0, on_message=messages.append)))
        await asyncio.sleep(30)
        assert len(messages) == 1
        for one in waits:
            one.cancel()

    site.latency = 2.0
    messages: list[str] = []
    jobs = fill(site, lambda n, now: "RUNNING", 5)
    virtually(scene())


def test_a_cancelled_waiter_leaves_at_once_and_nothing_behind(site: Any, virtually: Any) -> None:
    async def scene() -> None:
        watcher = site.watcher()
        waits = [asyncio.create_task(site.watcher().wait(one)) for one in jobs]
        for moment in (0.0, 0.005, 0.5, 5.0):  # before, during and between questions
            await asyncio.sleep(moment)
            leaving, began = waits.pop(), asyncio.get_running_loop().time()
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            assert asyncio.get_running_loop().time() == began
        assert site.clients["closed"] == 0
        await asyncio.gather(*waits)
        assert watcher._jobs == {}
        assert watcher._task is None
        assert len(asyncio.all_tasks()) == 1
        assert not loop_worker._workers[asyncio.get_running_loop()]
        left.append(weakref.ref(watcher))

    left: list[Any] = []
    jobs = fill(site, lambda n, now: "RUNNING" if now < 60 else "COMPLETED", 8)
    virtually(scene())
    assert site.clients == {"made": 1, "closed": 1}
    gc.collect()
    assert left[0]() is None


def test_the_last_cancelled_waiter_closes_the_client(site: Any, virtually: Any) -> None:
    async def scene() -> None:
        wait = asyncio.create_task(site.watcher().wait(job()))
        await asyncio.sleep(30)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        assert site.clients == {"made": 1, "closed": 1}
        assert site.in_flight == 0
        assert (await site.watcher().wait(job(1))).succeeded  # and a new one begins anew
        assert site.clients == {"made": 2, "closed": 2}

    site.single = lambda job_id, now: [row("RUNNING" if job_id == "7" else "COMPLETED", job_id)]
    virtually(scene())


def test_one_watcher_for_each_system_user_and_loop(site: Any, virtually: Any) -> None:
    async def scene() -> None:
        shared = JobWatcher.shared(CONNECTION, "rig")
        assert JobWatcher.shared(replace(CONNECTION, system="other"), "rig") is shared
        assert JobWatcher.shared(CONNECTION, "alps") is not shared
        assert JobWatcher.shared(replace(CONNECTION, client_id="you"), "rig") is not shared
        assert JobWatcher.shared(replace(CONNECTION, client_secret="newer"), "rig") is not shared
        seen.append(shared)

    seen: list[JobWatcher] = []
    virtually(scene())
    virtually(scene())
    assert seen[0] is not seen[1]


def test_a_callback_that_fails_ends_its_own_wait_alone(site: Any, virtually: Any) -> None:
    def broken(line: str) -> None:
        raise ValueError("my log is full")

    async def scene() -> list[Any]:
        waits = [site.watcher().wait(one, on_message=broken if one is jobs[0] else messages.append) for one in jobs]
        return await asyncio.gather(*waits, return_exceptions=True)

    messages: list[str] = []
    jobs = [*fill(site, lambda n, now: "RUNNING" if now < 60 else "COMPLETED", 4), job(1)]
    results = virtually(scene())
    assert isinstance(results[0], ValueError)
    assert all(result.succeeded for result in results[1:])


def test_each_callback_runs_in_its_waiters_context(site: Any, virtually: Any) -> None:
    whose: contextvars.ContextVar[str] = contextvars.ContextVar("whose", default="nobody's")
    heard: list[tuple[str, str]] = []

    async def wait(one: Job) -> None:
        whose.set(one.job_id)
        await site.watcher().wait(one, on_message=lambda line: heard.append((whose.get(), line)))

    async def scene() -> None:
        await asyncio.gather(*map(wait, jobs))

    jobs = fill(site, lambda n, now: "RUNNING" if now < 60 else "COMPLETED", 5)
    virtually(scene())
    assert len(heard) == 10
    assert all(line.startswith(f"Job {who} ") for who, line in heard)


def test_a_fault_of_ours_ends_the_waits(site: Any, virtually: Any) -> None:
    site.listed = lambda now: KeyError("a bug")
    with pytest.raises(KeyError):
        virtually(all_of(site, [job(n) for n in range(5)]))


# --- outages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        DOWN,
        errors.RequestTimedOut("408"),
        errors.ServerFault("424", not_processed=True),
        errors.RateLimited("429", retry_after=45.0),
        errors.SystemUnhealthy("503"),
        errors.AuthenticationFailed("the token issuer is confused"),
        errors.HostNotFound("no such host"),
        errors.TLSFailed("expired"),
        errors.RequestRejected("a proxy's page"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("count", [1, 2, 50])
def test_an_outage_of_three_minutes(site: Any, virtually: Any, error: Exception, count: int) -> None:
    def life(n: int, now: float) -> str:
        return "RUNNING" if now < 200 else "COMPLETED"

    messages: list[str] = []
    jobs = fill(site, life, count)
    single, listed = site.single, site.listed
    site.single = lambda job_id, now: error if 100 < now < 280 else single(job_id, now)
    site.listed = lambda now: error if 100 < now < 280 else listed(now)
    results = virtually(all_of(site, jobs, on_message=messages.append))
    assert all(result.succeeded for result in results)
    during = [t for t, _ in site.asked if 100 < t < 280]
    assert max(len([t for t in during if since <= t < since + 10]) for since in during) <= 20
    assert len(during) <= 60
    down = [line for line in messages if "still waiting" in line]
    assert count <= len(down) <= 3 * count
    assert len([line for line in messages if "answers again" in line]) == count
    if isinstance(error, errors.RateLimited):
        assert all(later - t >= 45 for t, later in itertools.pairwise(during[::count] if count < 3 else during))


def test_a_glitch_is_no_news(site: Any, virtually: Any) -> None:
    messages: list[str] = []
    script(site, [row("RUNNING")], DOWN, [row("RUNNING")], DOWN, [row("COMPLETED")])
    virtually(all_of(site, [job()], on_message=messages.append))
    assert len(messages) == 2


def test_outages_of_hours_are_reported_at_growing_intervals(site: Any, virtually: Any) -> None:
    messages: list[str] = []
    site.single = lambda job_id, now: DOWN if now < 36000 else [row("COMPLETED")]
    assert virtually(all_of(site, [job()], on_message=messages.append))[0].succeeded
    assert 3 <= len([line for line in messages if "still waiting" in line]) < 15
    assert len(site.asked) < 1600


def test_a_wait_that_begins_in_an_outage_hears_of_it_without_a_question(site: Any, virtually: Any) -> None:
    async def scene() -> None:
        first = asyncio.create_task(site.watcher().wait(job()))
        await asyncio.sleep(200)
        asked = len(site.asked)
        with pytest.raises(errors.WaitTimedOut, match="could not be read"):
            await site.watcher().wait(job(8), timeout=0)
        assert len(site.asked) == asked
        first.cancel()

    site.single = lambda job_id, now: DOWN
    virtually(scene())


@pytest.mark.parametrize("count", [1, 5])
def test_what_the_user_has_to_mend_ends_a_wait_that_never_got_an_answer(site: Any, virtually: Any, count: int) -> None:
    site.single = site.listed = lambda *_: errors.AccessDenied("not you")
    with pytest.raises(errors.AccessDenied):
        virtually(all_of(site, [job(n) for n in range(count)]))


def test_a_server_without_a_list(site: Any, virtually: Any) -> None:
    jobs = fill(site, lambda n, now: "RUNNING" if now < 30 else "COMPLETED", 10)
    site.listed = lambda now: errors.RequestRejected("no such endpoint")
    assert all(result.succeeded for result in virtually(all_of(site, jobs)))
    assert site.most_in_flight == 4


@pytest.mark.parametrize(
    "error",
    [
        errors.ServerFault("HTTP 500"),
        errors.ServerFault("HTTP 502"),
        errors.UnexpectedAnswer("HTTP 413"),
        errors.FileTooLarge("HTTP 413"),
        errors.RequestTimedOut("HTTP 408"),
    ],
    ids=lambda error: str(error),
)
def test_only_the_list_fails(site: Any, virtually: Any, error: Exception) -> None:
    jobs = fill(site, lambda n, now: "RUNNING" if now < 600 + n else "COMPLETED", 10)
    listed = site.listed
    site.listed = lambda now: listed(now) if now < 100 or now > 900 else error
    messages: list[str] = []
    assert all(result.succeeded for result in virtually(all_of(site, jobs, on_message=messages.append)))
    assert site.most_in_flight <= 4
    assert site.asked[-1][0] < 640
    assert len([line for line in messages if "still waiting" in line]) <= len(jobs)


def test_a_list_that_comes_back_is_enough(site: Any, virtually: Any) -> None:
    jobs = fill(site, lambda n, now: "RUNNING" if now < 2000 else "COMPLETED", 10)
    listed = site.listed
    site.listed = lambda now: errors.ServerFault("HTTP 500") if 100 < now < 400 else listed(now)
    assert all(result.succeeded for result in virtually(all_of(site, jobs)))
    alone = [t for t, what in site.asked if not what.startswith("list") and 420 < t < 2000]
    assert not alone


def test_a_job_that_the_server_chokes_on_slows_nobody_else(site: Any, virtually: Any) -> None:
    jobs = fill(site, lambda n, now: "" if n <= 6 else "RUNNING" if now < 600 + n else "COMPLETED", 20)
    single = site.single
    site.single = lambda job_id, now: DOWN if int(job_id) <= 6 and now < 2000 else single(job_id, now)
    ends: dict[str, float] = {}

    async def timed(one: Job) -> None:
        assert (await site.watcher().wait(one)).succeeded
        ends[one.job_id] = asyncio.get_running_loop().time()

    async def scene() -> None:
        await asyncio.gather(*map(timed, jobs))

    virtually(scene())
    assert all(ends[str(n)] - 600 - n < 12 for n in range(7, 21))
    assert all(ends[str(n)] < 2000 + 45 for n in range(1, 7))
    assert all(site.counted[str(n)] < 100 for n in range(1, 7))


def test_jobs_end_at_random_through_random_faults(site: Any, virtually: Any) -> None:
    dice = random.Random(7)
    lives = {n: 50 + dice.random() * 500 for n in range(1, 61)}
    jobs = fill(site, lambda n, now: "RUNNING" if now < lives[n] else "COMPLETED", 60)
    single, listed = site.single, site.listed
    faults = [DOWN, UNKNOWN, errors.ServerFault("500"), errors.RateLimited("429", retry_after=3.0)]
    site.single = lambda job_id, now: dice.choice(faults) if dice.random() < 0.3 else single(job_id, now)
    site.listed = lambda now: DOWN if dice.random() < 0.2 else [one for one in listed(now) if dice.random() < 0.8]
    assert all(result.succeeded for result in virtually(all_of(site, jobs)))
    assert site.most_in_flight <= 4


async def test_every_fault_over_http_is_outlived(
    connection: Connection, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real client between the watcher and a server that has a bad day, its token issuer as well."""
    monkeypatch.setattr("firecrest_core.api.backoff.LONGEST_PAUSE", 0.02)
    unhealthy = {"errorType": "error", "message": "The scheduler service for the requested system (rig) is unhealthy."}
    bad_day = [
        *[Response("", status=status) for status in (408, 424, 500, 502, 503, 504, 404, 403)],
        Response(json.dumps(unhealthy), status=503, content_type="application/json"),
        Response("", status=429, headers={"Retry-After": "0"}),
        Response("<html>back soon</html>", content_type="text/html"),
        Response('{"jobs": [', content_type="application/json"),
        *[Response("", status=401)] * 8,  # each costs a token, too
    ]
    answers = iter([rows_of("RUNNING"), *bad_day, rows_of("COMPLETED")])
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_handler(lambda request: next(answers))
    httpserver.expect_oneshot_request("/token").respond_with_data("", status=502)
    result = await JobWatcher.shared(connection, "rig").wait(job(), poll_interval=0.1)
    assert result.succeeded


def rows_of(state: str) -> Response:
    return Response(json.dumps({"jobs": [row(state)]}), content_type="application/json")


# --- on the embedded server -----------------------------------------------------------------------------


async def test_twenty_jobs_on_the_embedded_server(tmp_path: Path) -> None:
    with LocalFirecREST(Settings(root=tmp_path, cores=32)) as server:
        async with FirecRESTClient(Connection.from_environment(server.environ)) as client:
            spec = JobSpec(command="sleep 5", working_dir=str(server.home))
            jobs = [await lifecycle.submit(client.system(server.system), spec) for _ in range(20)]
            before = server.requests.copy()
            results = await asyncio.gather(*(lifecycle.wait(client.system(), one) for one in jobs))
        assert all(result.succeeded for result in results)
        asked = server.requests - before
        lists = asked["GET", "/compute/{system_name}/jobs"]
        single = asked["GET", "/compute/{system_name}/jobs/{job_id}"]
        assert 2 <= lists <= 15, asked
        assert single <= 30, asked  # one for each, and a few that were absent when they ended
