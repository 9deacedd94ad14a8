"""When the claims of a finished task go, and when they stay; test_claim_protocol.py shows that this is safe."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from firecrest_core import errors, lifecycle
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.api.models import JobInfo
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey

KEY = ClaimKey("task", 3)
JOB = Job(system="rig", job_id="57", working_dir="/wd", key=KEY)


def row(job_id: str, state: str, key: ClaimKey = KEY, name: str | None = None) -> JobInfo:
    name = key.job_name("relax") if name is None else name
    return JobInfo.model_validate({"jobId": job_id, "name": name, "status": {"state": state}})


@pytest.fixture
def system() -> Any:
    system = AsyncMock(spec=System)
    system.name, system.client = "rig", Mock()
    system.get_jobs.return_value = [row("57", "COMPLETED")]
    return system


async def test_the_claims_of_a_task_whose_jobs_have_ended_go(system: Any) -> None:
    assert await lifecycle.clean_up(system, [JOB]) == [JOB]
    system.remove.assert_awaited_once_with("/wd/.firecrest/task", missing_ok=True)


@pytest.mark.parametrize(
    "rows",
    [
        [row("57", "COMPLETED"), row("58", "PENDING")],
        [row("57", "COMPLETED"), row("58", "RUNNING", ClaimKey("task", 2))],
        [row("57", "COMPLETED"), row("58", "PENDING", ClaimKey("task", 3, 1))],
        [row("57", "COMPLETED"), row("58", "NODE_FAIL")],  # it may be queued again
        [row("57", "COMPLETED"), row("58", "GONE_FISHING")],
        [row("57", "COMPLETED"), row("58", "PENDING", name="allocation")],  # being launched, without its name
        [],  # another user's list, or a scheduler that forgets
        [row("57", "COMPLETED", name="relax")],  # a singleton keeps its name
        [row("57", "COMPLETED", ClaimKey("task", 2))],
    ],
)
async def test_the_claims_stay_while_a_duplicate_may_live(system: Any, rows: list[JobInfo]) -> None:
    system.get_jobs.return_value = rows
    assert await lifecycle.clean_up(system, [JOB]) == []
    system.remove.assert_not_awaited()


async def test_other_jobs_keep_nothing(system: Any) -> None:
    system.get_jobs.return_value += [row("58", "RUNNING", ClaimKey("other", 3)), row("59", "PENDING", name="salloc")]
    assert await lifecycle.clean_up(system, [JOB]) == [JOB]


@pytest.mark.parametrize("error", [errors.ServerFault, errors.AccessDenied, errors.RemotePathRefused])
@pytest.mark.parametrize("request_", ["get_jobs", "remove"])
async def test_what_fails_is_left(system: Any, error: Any, request_: str) -> None:
    getattr(system, request_).side_effect = error("no")
    assert await lifecycle.clean_up(system, [JOB]) == []


@pytest.mark.parametrize("error", errors.OF_CONNECTION)
async def test_what_concerns_the_connection_is_an_error(system: Any, error: Any) -> None:
    """So that whoever removes claims leaves the connection alone for a while."""
    system.get_jobs.side_effect = error("no")
    with pytest.raises(error):
        await lifecycle.clean_up(system, [JOB])


async def test_a_list_with_a_row_that_cannot_be_read_shows_nothing(connection: Connection, httpserver: Any) -> None:
    jobs = [{"jobId": "57", "name": KEY.job_name("relax"), "status": {"state": "COMPLETED"}}]
    httpserver.expect_request("/compute/rig/jobs").respond_with_json({"jobs": [*jobs, {"name": "no id"}]})
    async with FirecRESTClient(connection) as client:
        assert len(await client.system("rig").get_jobs()) == 1
        assert await lifecycle.clean_up(client.system("rig"), [JOB]) == []


async def test_a_job_without_a_key_has_left_nothing(system: Any) -> None:
    job = Job(system="rig", job_id="57")
    assert await lifecycle.clean_up(system, [job]) == [job]
    system.get_jobs.assert_not_awaited()
