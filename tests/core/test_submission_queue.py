"""Limits on submitted jobs: those that pass with time are waited for in one line, the others are final."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from firecrest_core import errors, lifecycle
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.api.models import JobInfo
from firecrest_core.api.submit_limits import counts_own_jobs, passing_limit
from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.jobs.submission_queue import SubmissionQueue

JOB = SubmitRequest(name="j", working_directory="/wd", script="#!/bin/bash\n")
VIOLATES = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, …)"

PASSING = [
    "AssocMaxSubmitJobLimit",
    "AssocGrpSubmitJobsLimit",
    "QOSMaxSubmitJobPerUserLimit",
    "QOSMaxSubmitJobPerAccountLimit",
    "QOSGrpSubmitJobsLimit",
    "QOSMaxJobsPerUserLimit",
    "AssocMaxJobsLimit",
]
PASSING_OF_PBS = [
    "would exceed queue generic's per-user limit",
    "would exceed queue generic's per-user limit of jobs in 'Q' state",
    "Maximum number of jobs already in queue workq",
    "Maximum number of jobs in 'Q' state for user me already in queue workq",
]
FINAL = {
    "AssocMaxWallDurationPerJobLimit": "time_limit",
    "QOSMaxWallDurationPerJobLimit": "time_limit",
    "AssocMaxNodePerJobLimit": "less",
    "QOSMaxCpuPerJobLimit": "less",
    "QOSMaxGRESPerUser": "",
    "QOSMinCpuNotSatisfied": "more",
    "AssocMaxCpuMinutesPerJobLimit": "less",
    "Batch job submission failed: Invalid job array specification": "MaxArraySize",
}


def new(words: str) -> tuple[int, str]:
    """The answer of servers from 2.5.5 on."""
    return 403, f"Job submission rejected: accounting/QOS policy limit exceeded. sbatch: error: {words}\n{VIOLATES}"


def old(words: str) -> tuple[int, str]:
    """The answer of older servers, and of all where the server's pattern does not match."""
    return 500, (
        "Unexpected Slurm command response. exit_status:1 std_err:Could not chdir to home directory /users/me: "
        f"No such file or directory\nsbatch: error: {words}\n{VIOLATES}\n"
    )


def pbs(words: str) -> tuple[int, str]:
    return 500, f"Unexpected PBS command response. exit_status:38 std_err:qsub: {words}\n stdout:"


def answer(status: int, message: str) -> Response:
    body = {"errorType": "error", "message": message, "causedBy": None, "data": None, "user": "me"}
    return Response(json.dumps(body), status, content_type="application/json")


@pytest.mark.parametrize(
    ("words", "status_and_message"),
    [(words, form(words)) for form in (new, old) for words in PASSING]
    + [(words, pbs(words)) for words in PASSING_OF_PBS],
)
async def test_a_limit_on_the_number_of_jobs_passes(
    httpserver: HTTPServer, client: FirecRESTClient, words: str, status_and_message: tuple[int, str]
) -> None:
    httpserver.expect_request("/compute/rig/jobs").respond_with_response(answer(*status_and_message))
    with pytest.raises(errors.SubmissionLimitReached) as reached:
        await client.system("rig").submit_job(JOB)
    assert reached.value.limit == words
    assert words in str(reached.value)


@pytest.mark.parametrize("words", FINAL)
@pytest.mark.parametrize("form", [new, old])
async def test_a_limit_on_the_job_itself_is_final(
    httpserver: HTTPServer, client: FirecRESTClient, words: str, form: Callable[[str], tuple[int, str]]
) -> None:
    httpserver.expect_request("/compute/rig/jobs").respond_with_response(answer(*form(words)))
    with pytest.raises(errors.SubmissionRejected) as refused:
        await client.system("rig").submit_job(JOB)
    assert words in str(refused.value)
    assert FINAL[words] in str(refused.value)
    assert "access" not in str(refused.value)


def test_a_resource_of_pbs_may_be_more_than_the_job_can_ever_get() -> None:
    assert not passing_limit(pbs("would exceed limit on resource ncpus in queue workq")[1])


def test_whose_jobs_count() -> None:
    assert [limit for limit in PASSING if not counts_own_jobs(limit)] == [
        "AssocGrpSubmitJobsLimit",
        "QOSMaxSubmitJobPerAccountLimit",
        "QOSGrpSubmitJobsLimit",
    ]


async def test_any_other_403_stays_a_matter_of_access(httpserver: HTTPServer, client: FirecRESTClient) -> None:
    httpserver.expect_request("/compute/rig/jobs").respond_with_response(answer(403, "User may not access rig"))
    with pytest.raises(errors.AccessDenied):
        await client.system("rig").submit_job(JOB)


class Cluster:
    """A system that takes a number of jobs at once; each of them ends after some seconds."""

    name = "rig"
    connection = "the user's"

    def __init__(self, room: int, seconds: float, limit: str = "AssocMaxSubmitJobLimit") -> None:
        self.room, self.seconds, self.limit = room, seconds, limit
        self.live = self.posts = self.lists = self.most = self.taken = 0

    def __str__(self) -> str:
        return self.name

    async def post(self, elements: int = 1) -> int:
        self.posts += 1
        await asyncio.sleep(0.1)
        if self.live + elements > self.room:
            raise errors.SubmissionLimitReached(f"Submission to rig: {self.limit} is reached.", self.limit)
        self.taken += 1
        self.live += elements
        self.most = max(self.most, self.live)
        asyncio.get_running_loop().call_later(self.seconds, self._end, elements)
        return self.taken

    def _end(self, elements: int) -> None:
        self.live -= elements

    async def get_jobs(self) -> list[JobInfo]:
        self.lists += 1
        row = {"jobId": "1", "name": "j", "status": {"state": "RUNNING"}}
        return [JobInfo.model_validate(row) for _ in range(self.live)]


Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def sweep(cluster: Any, size: int, elements: int = 1) -> list[Any]:
    queue = SubmissionQueue.shared(cluster)
    return await asyncio.gather(
        *(queue.submit(cluster, f"job {number}", lambda: cluster.post(elements)) for number in range(size)),
        return_exceptions=True,
    )


def test_a_sweep_above_the_limit_backs_off_together(virtually: Run, caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(room=3, seconds=600)
    with caplog.at_level(logging.WARNING):
        ids = virtually(sweep(cluster, 100))
    assert len(set(ids)) == 100
    assert cluster.most == 3
    # At first each tries once. Then one tries at a time: at least every half minute, and again after each success.
    seconds = 600 * 100 / 3
    assert cluster.posts <= 100 + seconds / 30 + 97 * 6
    waits = [message for message in caplog.messages if "waits for room" in message]
    assert len(waits) == 97  # each says so once
    assert all(
        "AssocMaxSubmitJobLimit is reached; 3 jobs of yours are waiting or running there." in one for one in waits
    )
    assert cluster.lists <= seconds / 60 + 2  # one list a minute at the most, for all of them


def test_room_is_used_as_soon_as_it_is_found(virtually: Run) -> None:
    cluster = Cluster(room=50, seconds=100)

    async def run() -> float:
        await sweep(cluster, 200)
        return asyncio.get_running_loop().time()

    assert virtually(run()) < 4 * (100 + 40)


def test_an_array_that_is_larger_than_the_limit_is_refused_in_the_end(virtually: Run) -> None:
    (error,) = virtually(sweep(Cluster(room=3, seconds=600), 1, elements=20))
    assert isinstance(error, errors.SubmissionRejected)
    assert "AssocMaxSubmitJobLimit is reached although no job of yours is there" in str(error)
    assert "Split it" in str(error)


def test_a_limit_that_others_jobs_hold_is_waited_for(virtually: Run) -> None:
    cluster = Cluster(room=0, seconds=1, limit="QOSGrpSubmitJobsLimit")

    async def run() -> list[Any]:
        asyncio.get_running_loop().call_later(3 * 3600, lambda: setattr(cluster, "room", 1))
        return await sweep(cluster, 1)

    assert isinstance(virtually(run())[0], int)


def test_who_leaves_the_line_makes_room_for_the_next(virtually: Run) -> None:
    cluster = Cluster(room=1, seconds=300)

    async def run() -> int:
        queue = SubmissionQueue.shared(cluster)  # type: ignore[arg-type]
        await queue.submit(cluster, "a", cluster.post)  # type: ignore[arg-type]
        first, second = (asyncio.create_task(queue.submit(cluster, name, cluster.post)) for name in "bc")  # type: ignore[arg-type]
        await asyncio.sleep(60)
        first.cancel()
        return await second

    assert virtually(run())


def test_other_errors_are_the_callers(virtually: Run) -> None:
    async def fail() -> int:
        raise errors.SubmissionUnknown("who knows")

    async def run() -> None:
        cluster: Any = Cluster(room=1, seconds=1)
        await SubmissionQueue.shared(cluster).submit(cluster, "a", fail)

    with pytest.raises(errors.SubmissionUnknown):
        virtually(run())


async def test_without_waiting_the_error_is_raised(
    httpserver: HTTPServer, client: FirecRESTClient, mocker: Any
) -> None:
    from firecrest_core.jobs.key import ClaimKey
    from firecrest_core.spec.jobspec import JobSpec

    system = client.system("rig")
    mocker.patch.object(system, "scheduler", return_value="slurm")
    mocker.patch.object(system, "has_directory", return_value=True)
    httpserver.expect_request("/compute/rig/jobs").respond_with_response(answer(*new("AssocMaxSubmitJobLimit")))
    spec = JobSpec(working_dir="/wd", script="#!/bin/bash\n")
    for key in (None, ClaimKey("task")):
        with pytest.raises(errors.SubmissionLimitReached):
            await lifecycle.submit(system, spec, key, first_attempt=True, wait_for_room=False)
