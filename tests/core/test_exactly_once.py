"""What the protocol does when the server says no, or nothing; test_claim_protocol.py shows that it holds."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock

import pytest

from firecrest_core import claim_directory, errors, exactly_once, outage
from firecrest_core.claim import Key
from firecrest_core.client import FirecRESTClient
from firecrest_core.job import Job
from firecrest_core.jobspec import JobSpec
from firecrest_core.models import FileInfo, JobInfo, SystemInfo
from firecrest_core.result import JobResult
from firecrest_core.states import JobState

SPEC = JobSpec(working_dir="/wd", command="true", name="relax")
KEY = Key("task", 3)
NO_CLAIMS = errors.RemotePathNotFound("no such directory")


def claimed(holder: str, generation: int = 0) -> list[FileInfo]:
    return [
        FileInfo(name=f"3.{generation}/claim", type="l", link_target=f"/wd/.firecrest/task/3.{generation}/{holder}")
    ]


def row(job_id: str, state: str, name: str = "") -> JobInfo:
    return JobInfo.model_validate({"jobId": job_id, "name": name, "status": {"state": state}})


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []

    async def sleep(delay: float) -> None:
        pauses.append(delay)

    for module in (exactly_once, claim_directory, outage):
        monkeypatch.setattr(module, "sleep", sleep)
    return pauses


@pytest.fixture
def client(pauses: list[float]) -> Any:
    client = AsyncMock(spec=FirecRESTClient)
    client.system.return_value = SystemInfo(name="rig")
    client.has_directory.return_value = True
    client.ls.side_effect = NO_CLAIMS
    client.get_jobs.return_value = []
    client.submit_job.return_value = "57"
    return client


async def start(client: Any, **how: Any) -> Job:
    return await exactly_once.start(client, "rig", SPEC, KEY, **how)


async def test_faults_at_first_contact_are_not_waited_for_for_ever(client: Any, pauses: list[float]) -> None:
    client.system.side_effect = errors.ServerFault("a proxy's 502")
    with pytest.raises(errors.ServerFault):
        await start(client, fresh=True)
    assert 300 <= sum(pauses) < 400


@pytest.mark.parametrize("error", [errors.ServerUnreachable, errors.RequestTimedOut])
async def test_a_first_contact_that_fails_is_told_at_once(client: Any, pauses: list[float], error: Any) -> None:
    client.system.side_effect = error("no answer")
    with pytest.raises(error):
        await start(client, fresh=True)
    assert pauses == []


@pytest.mark.parametrize("error", [errors.HostNotFound, errors.AuthenticationFailed, errors.SystemNotFound])
async def test_a_first_contact_that_the_user_must_mend(client: Any, pauses: list[float], error: Any) -> None:
    client.system.side_effect = error("wrong")
    with pytest.raises(error):
        await start(client, fresh=True)
    assert pauses == []


async def test_an_outage_after_a_lost_answer_is_waited_out(client: Any, pauses: list[float]) -> None:
    client.submit_job.side_effect = errors.SubmissionUnknown("lost")
    client.ls.side_effect = [errors.HostNotFound("the resolver is down")] * 40 + [claimed("job-57")]
    job = await start(client, fresh=True)
    assert (job.job_id, job.key) == ("57", KEY)
    assert client.submit_job.await_count == 1
    assert sum(pauses) > 600
    assert max(pauses) < 40


async def test_a_wrong_secret_in_a_retry_is_told_in_the_end(client: Any, pauses: list[float]) -> None:
    client.system.side_effect = errors.AuthenticationFailed("wrong")
    with pytest.raises(errors.AuthenticationFailed):
        await start(client)
    assert 300 <= sum(pauses) < 400


async def test_the_servers_wish_is_heeded(client: Any, pauses: list[float]) -> None:
    client.submit_job.side_effect = [errors.RateLimited("429", nothing_done=True, retry_after=50.0), "57"]
    assert (await start(client, fresh=True)).job_id == "57"
    assert pauses[0] >= 50


async def test_a_rejection_after_a_lost_answer_is_final(client: Any) -> None:
    client.submit_job.side_effect = [errors.SubmissionUnknown("lost"), errors.SubmissionRejected("limit")]
    with pytest.raises(errors.SubmissionRejected):
        await start(client, fresh=True)
    client.make_link.assert_awaited_once_with(
        "rig", "/wd/.firecrest/task/3.0/cancelled", "/wd/.firecrest/task/3.0/claim"
    )


async def test_a_rejection_after_a_lost_answer_whose_job_runs(client: Any) -> None:
    client.submit_job.side_effect = [errors.SubmissionUnknown("lost"), errors.SubmissionRejected("limit")]
    client.ls.side_effect = [NO_CLAIMS, NO_CLAIMS, claimed("job-57")]
    client.make_link.side_effect = errors.RemotePathExists("File exists")
    assert (await start(client, fresh=True)).job_id == "57"


async def test_the_lowest_live_job_is_adopted(client: Any) -> None:
    name = KEY.job_name("named otherwise")
    client.get_jobs.return_value = [
        row("100_[2-3]", "PENDING", name),
        row("99", "PENDING", name),
        row("98", "COMPLETED", name),
        row("97", "PENDING", "relax"),
        row("96", "PENDING", Key("another", 3).job_name("relax")),
        row("95", "PENDING", Key("task", 2).job_name("relax")),
    ]
    assert (await start(client)).job_id == "99"
    client.submit_job.assert_not_awaited()


@pytest.mark.parametrize(
    ("state", "job_id"), [("RUNNING", "57"), ("COMPLETED", "57"), ("FAILED", "58"), ("NODE_FAIL", "58")]
)
async def test_a_retry_asks_for_the_state_of_the_claims_holder(client: Any, state: str, job_id: str) -> None:
    client.ls.side_effect = [claimed("job-57"), claimed("job-57"), claimed("job-57")]
    client.get_job.side_effect = [[row("57", state)], [row("57", "CANCELLED")]]
    client.cancel.side_effect = [state == "NODE_FAIL", False]  # it was on its way back into the queue
    client.submit_job.return_value = "58"
    job = await exactly_once.resume(client, "rig", SPEC, KEY)
    assert job.job_id == job_id
    assert job.key == (KEY if job_id == "57" else KEY.next_generation())


async def test_a_full_disk_does_not_keep_the_job_alive(client: Any) -> None:
    client.ls.side_effect = [claimed("job-57"), claimed("job-57")]
    client.make_link.side_effect = errors.RemotePathRefused("Disk quota exceeded")
    client.get_jobs.return_value = [row("58", "PENDING", KEY.job_name("relax"))]
    with pytest.raises(errors.RemotePathRefused):
        await exactly_once.cancel(client, "rig", "/wd", "task", 3)
    assert [call.args for call in client.cancel.await_args_list] == [("rig", "57"), ("rig", "58")]


async def test_a_job_that_never_claimed_keeps_its_failure_where_no_claim_can_be_made(client: Any) -> None:
    client.make_link.side_effect = errors.RemotePathRefused("Permission denied")
    job = Job(system="rig", job_id="57", working_directory="/wd", key=KEY)
    result = JobResult(job_id="57", system="rig", state=JobState.FAILED)
    assert await exactly_once.settle(client, job, result) is result


async def test_a_job_without_a_key_is_what_it_is(client: Any) -> None:
    result = JobResult(job_id="57", system="rig", state=JobState.COMPLETED)
    assert await exactly_once.settle(client, Job(system="rig", job_id="57"), result) is result


async def test_a_claim_that_cannot_be_seen_yet(client: Any, pauses: list[float]) -> None:
    client.ls.side_effect = [NO_CLAIMS] * 3 + [claimed("job-57")]  # NFS: made on another machine
    job = Job(system="rig", job_id="57", working_directory="/wd", key=KEY)
    result = JobResult(job_id="57", system="rig", state=JobState.COMPLETED)
    assert await exactly_once.settle(client, job, result) is result
    client.ls.side_effect = NO_CLAIMS
    with pytest.raises(errors.ClaimMissing, match=r"/wd/\.firecrest/task/3\.0"):
        await exactly_once.settle(client, job, result)


async def test_a_script_on_the_cluster_that_is_no_text(client: Any) -> None:
    client.get_small.return_value = b"\xff\xfe"
    spec = JobSpec(working_dir="/wd", script_path="/wd/a.out")
    with pytest.raises(errors.InvalidJobSpec, match="script_path: /wd/a.out"):
        await exactly_once.start(client, "rig", spec, KEY, fresh=True)


async def test_a_forgotten_job_of_an_older_epoch_holds_nothing_up(client: Any, pauses: list[float]) -> None:
    client.ls.side_effect = [claimed("job-57")]
    client.get_job.side_effect = errors.JobNotFound("57")
    client.cancel.return_value = False
    client.submit_job.return_value = "58"
    job = await exactly_once.begin_epoch(client, "rig", SPEC, Key("task", 4), fresh=True)
    assert job.job_id == "58"
    client.make_directory.assert_awaited_once_with("rig", "/wd/.firecrest/task/4.0")
    assert pauses == []
