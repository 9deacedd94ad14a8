"""What the protocol does when the server says no, or nothing; test_claim_protocol.py shows that it holds."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from firecrest_core import errors, lifecycle
from firecrest_core.api import backoff
from firecrest_core.api.client import System
from firecrest_core.api.models import FileInfo, JobInfo
from firecrest_core.claims import directory, owner, protocol
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState

SPEC = JobSpec(working_dir="/wd", command="true", name="relax")
KEY = ClaimKey("task", 3)
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

    for module in (owner, directory, backoff):
        monkeypatch.setattr(module, "sleep", sleep)
    return pauses


@pytest.fixture
def system(pauses: list[float]) -> Any:
    system = AsyncMock(spec=System)
    system.name = "rig"
    system.scheduler.return_value = "slurm"
    system.has_directory.return_value = True
    system.list_files.side_effect = NO_CLAIMS
    system.get_jobs.return_value = []
    system.submit_job.return_value = "57"
    return system


@pytest.mark.parametrize(("taken", "posts", "job_id"), [(True, 1, "58"), (False, 2, "59")])
async def test_a_retry_whose_answer_was_lost_resubmits_once(system, taken: bool, posts: int, job_id: str) -> None:
    """The job that was taken may have failed by now. That is for the next retry, which knows what was done in it."""
    claims = [claimed("57")]
    rows = {"57": "FAILED", "58": "FAILED", "59": "RUNNING"}

    async def post(request: Any, **how: Any) -> str:
        if system.submit_job.await_count == 1:
            if taken:
                claims.append([*claimed("57"), *claimed("58", generation=1)])
            raise errors.SubmissionUnknown("lost")
        return "59"

    system.list_files.side_effect = lambda *_, **__: claims[-1]
    system.get_job.side_effect = lambda job_id: [row(job_id, rows[job_id])]
    system.cancel_job.return_value = False
    system.submit_job.side_effect = post
    job = await protocol.submit(system, SPEC, KEY, resubmit_failed=True)
    assert (job.job_id, job.key.generation if job.key else None) == (job_id, 1)
    assert system.submit_job.await_count == posts


async def submit(system: Any, **how: Any) -> Job:
    return await protocol.submit(system, SPEC, KEY, **how)


async def test_faults_at_first_contact_are_not_waited_for_for_ever(system: Any, pauses: list[float]) -> None:
    system.scheduler.side_effect = errors.ServerFault("a proxy's 502")
    with pytest.raises(errors.ServerFault):
        await submit(system, first_attempt=True)
    assert 300 <= sum(pauses) < 400


@pytest.mark.parametrize("error", [errors.ServerUnreachable, errors.RequestTimedOut])
async def test_a_first_contact_that_fails_is_raised_at_once(system: Any, pauses: list[float], error: Any) -> None:
    system.scheduler.side_effect = error("no answer")
    with pytest.raises(error):
        await submit(system, first_attempt=True)
    assert pauses == []


@pytest.mark.parametrize("error", [errors.HostNotFound, errors.AuthenticationFailed, errors.SystemNotFound])
async def test_a_first_contact_that_the_user_must_mend(system: Any, pauses: list[float], error: Any) -> None:
    system.scheduler.side_effect = error("wrong")
    with pytest.raises(error):
        await submit(system, first_attempt=True)
    assert pauses == []


async def test_an_outage_after_a_lost_answer_is_waited_out(system: Any, pauses: list[float]) -> None:
    system.submit_job.side_effect = errors.SubmissionUnknown("lost")
    system.list_files.side_effect = [errors.HostNotFound("the resolver is down")] * 40 + [claimed("job-57")]
    job = await submit(system, first_attempt=True)
    assert (job.job_id, job.key) == ("57", KEY)
    assert system.submit_job.await_count == 1
    assert sum(pauses) > 600
    assert max(pauses) < 40


async def test_a_wrong_secret_in_a_retry_is_raised_in_the_end(system: Any, pauses: list[float]) -> None:
    system.scheduler.side_effect = errors.AuthenticationFailed("wrong")
    with pytest.raises(errors.AuthenticationFailed):
        await submit(system)
    assert 300 <= sum(pauses) < 400


async def test_a_pause_that_the_server_asks_for_is_kept(system: Any, pauses: list[float]) -> None:
    system.submit_job.side_effect = [errors.RateLimited("429", not_processed=True, retry_after=50.0), "57"]
    assert (await submit(system, first_attempt=True)).job_id == "57"
    assert pauses[0] >= 50


async def test_a_rejection_after_a_lost_answer_is_final(system: Any) -> None:
    system.submit_job.side_effect = [errors.SubmissionUnknown("lost"), errors.SubmissionRejected("limit")]
    with pytest.raises(errors.SubmissionRejected):
        await submit(system, first_attempt=True)
    system.symlink.assert_awaited_once_with("/wd/.firecrest/task/3.0/cancelled", "/wd/.firecrest/task/3.0/claim")


async def test_a_rejection_after_a_lost_answer_whose_job_runs(system: Any) -> None:
    system.submit_job.side_effect = [errors.SubmissionUnknown("lost"), errors.SubmissionRejected("limit")]
    system.list_files.side_effect = [NO_CLAIMS, NO_CLAIMS, claimed("job-57")]
    system.symlink.side_effect = errors.RemotePathExists("File exists")
    assert (await submit(system, first_attempt=True)).job_id == "57"


LIST_ALONE = [
    errors.ServerFault("500"),
    errors.RequestTimedOut("408"),
    errors.ServerFault("413: too long"),
    errors.UnexpectedAnswer("502"),
]


@pytest.mark.parametrize("error", LIST_ALONE, ids=str)
async def test_a_list_that_always_fails_holds_nothing_up(system: Any, pauses: list[float], error: Any) -> None:
    system.get_jobs.side_effect = error
    assert (await submit(system)).job_id == "57"
    assert 60 <= sum(pauses) <= 160  # a minute to look for its jobs, and one for those of older epochs
    await protocol.cancel(system, "/wd", "task", 3)
    system.symlink.assert_awaited_with("/wd/.firecrest/task/3.0/cancelled", "/wd/.firecrest/task/3.0/claim")


async def test_a_list_that_fails_with_everything_else_is_an_outage(system: Any, pauses: list[float]) -> None:
    system.get_jobs.side_effect = [*[errors.ServerFault("500")] * 20, *[[]] * 9]
    system.list_files.side_effect = [NO_CLAIMS, *[errors.ServerFault("500")] * 3, *[NO_CLAIMS] * 9]
    assert (await submit(system)).job_id == "57"
    assert len(pauses) > 6


async def test_the_lowest_live_job_is_adopted(system: Any) -> None:
    name = KEY.job_name("named otherwise")
    system.get_jobs.return_value = [
        row("100_[2-3]", "PENDING", name),
        row("99", "PENDING", name),
        row("98", "COMPLETED", name),
        row("97", "PENDING", "relax"),
        row("96", "PENDING", ClaimKey("another", 3).job_name("relax")),
        row("95", "PENDING", ClaimKey("task", 2).job_name("relax")),
    ]
    assert (await submit(system)).job_id == "99"
    system.submit_job.assert_not_awaited()


@pytest.mark.parametrize(
    ("state", "job_id"), [("RUNNING", "57"), ("COMPLETED", "57"), ("FAILED", "58"), ("NODE_FAIL", "58")]
)
async def test_a_retry_asks_for_the_state_of_the_claims_holder(system: Any, state: str, job_id: str) -> None:
    system.list_files.side_effect = [claimed("job-57"), claimed("job-57"), claimed("job-57")]
    system.get_job.side_effect = [[row("57", state)], [row("57", "CANCELLED")]]
    system.cancel_job.side_effect = [state == "NODE_FAIL", False]  # it was on its way back into the queue
    system.submit_job.return_value = "58"
    job = await protocol.submit(system, SPEC, KEY)
    assert job.job_id == job_id
    assert job.key == (KEY if job_id == "57" else KEY.next_generation())


async def test_a_full_disk_does_not_keep_the_job_alive(system: Any) -> None:
    system.list_files.side_effect = [claimed("job-57"), claimed("job-57")]
    system.symlink.side_effect = errors.RemotePathRefused("Disk quota exceeded")
    system.get_jobs.return_value = [row("58", "PENDING", KEY.job_name("relax"))]
    with pytest.raises(errors.RemotePathRefused):
        await protocol.cancel(system, "/wd", "task", 3)
    assert [call.args for call in system.cancel_job.await_args_list] == [("57",), ("58",)]


async def test_a_job_that_never_claimed_keeps_its_failure_where_no_claim_can_be_made(system: Any) -> None:
    system.symlink.side_effect = errors.RemotePathRefused("Permission denied")
    job = Job(system="rig", job_id="57", working_dir="/wd", key=KEY)
    result = JobResult(job_id="57", system="rig", state=JobState.FAILED)
    assert await owner.find_owner(system, job, result) == result


async def test_a_job_without_a_key_is_what_it_is(system: Any) -> None:
    result = JobResult(job_id="57", system="rig", state=JobState.COMPLETED)
    assert await owner.find_owner(system, Job(system="rig", job_id="57"), result) is result


async def test_a_claim_that_cannot_be_seen_yet(system: Any, pauses: list[float]) -> None:
    system.list_files.side_effect = [NO_CLAIMS] * 3 + [claimed("job-57")]  # NFS: made on another machine
    job = Job(system="rig", job_id="57", working_dir="/wd", key=KEY)
    result = JobResult(job_id="57", system="rig", state=JobState.COMPLETED)
    assert await owner.find_owner(system, job, result) == result
    system.list_files.side_effect = NO_CLAIMS
    with pytest.raises(errors.ClaimMissing, match=r"/wd/\.firecrest/task/3\.0"):
        await owner.find_owner(system, job, result)


async def test_a_script_on_the_cluster_that_is_no_text(system: Any) -> None:
    system.download_small.return_value = b"\xff\xfe"
    spec = JobSpec(working_dir="/wd", script_path="/wd/a.out")
    with pytest.raises(errors.InvalidJobSpec, match="script_path: /wd/a.out"):
        await protocol.submit(system, spec, KEY, first_attempt=True)


async def test_a_forgotten_job_of_an_older_epoch_holds_nothing_up(system: Any, pauses: list[float]) -> None:
    system.list_files.side_effect = [claimed("job-57")]
    system.get_job.side_effect = errors.JobNotFound("57")
    system.cancel_job.return_value = False
    system.submit_job.return_value = "58"
    newer = ClaimKey("task", 4)
    await protocol.end_older(system, "/wd", newer)
    job = await protocol.submit(system, SPEC, newer, first_attempt=True)
    assert job.job_id == "58"
    system.make_directory.assert_awaited_once_with("/wd/.firecrest/task/4.0")
    assert pauses == []


# --- the last moment before a POST ------------------------------------------------------------------------------


def announcing(system: Any, *outcomes: Any) -> list[str]:
    """What happens, in its order: ``before`` and each POST."""
    events: list[str] = []
    left = [*outcomes]

    async def post(_: Any, name: str) -> str:
        events.append("POST")
        outcome = left.pop(0) if left else "57"
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    system.client = Mock()
    system.submit_job.side_effect = post
    return events


async def submit_announced(system: Any, events: list[str], **how: Any) -> Job:
    async def before() -> None:
        events.append("before")

    return await lifecycle.submit(system, SPEC, KEY, wait_for_room=False, before_post=before, **how)


@pytest.mark.parametrize("first_attempt", [True, False])
async def test_it_is_announced_before_the_post(system: Any, first_attempt: bool) -> None:
    events = announcing(system)
    await submit_announced(system, events, first_attempt=first_attempt)
    assert events == ["before", "POST"]


async def test_it_is_announced_once(system: Any) -> None:
    lost = errors.SubmissionUnknown("lost")
    events = announcing(system, lost, errors.RateLimited("429", not_processed=True), "57")
    await submit_announced(system, events, first_attempt=True)
    assert events == ["before", "POST", "POST", "POST"]


@pytest.mark.parametrize("error", [errors.AuthenticationFailed, errors.SystemNotFound, errors.ServerUnreachable])
async def test_what_never_reaches_the_scheduler_is_not_announced(system: Any, error: Any) -> None:
    system.scheduler.side_effect = error("wrong")
    events = announcing(system)
    with pytest.raises(error):
        await submit_announced(system, events, first_attempt=True)
    assert events == []


async def test_a_working_directory_that_is_refused_is_not_announced(system: Any) -> None:
    system.has_directory.side_effect = errors.RemotePathRefused("outside of the file systems")
    events = announcing(system)
    with pytest.raises(errors.RemotePathRefused):
        await submit_announced(system, events, first_attempt=True)
    assert events == []


async def test_a_job_that_is_found_is_not_announced(system: Any) -> None:
    system.list_files.side_effect = None
    system.list_files.return_value = claimed("job-57")
    system.get_job.return_value = [row("57", "RUNNING")]
    events = announcing(system)
    assert (await submit_announced(system, events)).job_id == "57"
    assert events == []


async def test_nothing_is_submitted_that_cannot_be_announced(system: Any) -> None:
    async def fail() -> None:
        raise OSError("the engine is away")

    with pytest.raises(OSError):
        await lifecycle.submit(system, SPEC, KEY, first_attempt=True, wait_for_room=False, before_post=fail)
    system.submit_job.assert_not_called()
