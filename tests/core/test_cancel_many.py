"""Many jobs are cancelled together: those in the queue first, with few requests, and one that fails stops no other."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from unittest.mock import Mock

import pytest

from firecrest_core import errors, lifecycle
from firecrest_core.api.models import FileInfo, JobInfo
from firecrest_core.claims import cancel_many, cancel_queue
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey

CONNECTION = Connection(
    url="https://api.example.org", token_url="https://id.example.org", client_id="me", client_secret="secret"
)


def job(number: int, *, epoch: int = 0) -> Job:
    return Job(system="rig", job_id=str(number), working_dir="/wd", key=ClaimKey(f"task{number}", epoch))


class Cluster:
    """A system with jobs in the queue and claims, which counts the requests and fails some as the test asks."""

    name = "rig"

    def __init__(self, *jobs: Job) -> None:
        self.client = Mock(system=lambda _: self)
        self.queue = {one.job_id: one.key.job_name("relax") for one in jobs if one.key}
        self.links: dict[str, str] = {}
        self.directories = {"/wd"}
        self.requests: Counter[str] = Counter()
        self.order: list[str] = []
        self.failing: dict[str, Any] = {}
        self.in_flight = self.most_in_flight = 0

    def __str__(self) -> str:
        return self.name

    def hold(self, one: Job, job_id: str) -> None:
        """Let a job hold the claim of another one's key."""
        directory = one.key.directory(one.working_dir)
        self.directories.add(directory)
        self.links[f"{directory}/claim"] = f"{directory}/job-{job_id}"

    async def _request(self, kind: str, what: str = "") -> None:
        self.requests[kind] += 1
        self.order.append(f"{kind} {what}".strip())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        for text, error in self.failing.items():
            if text in f"{kind} {what}":
                raise error

    async def get_jobs(self) -> list[JobInfo]:
        await self._request("list")
        return [
            JobInfo.model_validate({"jobId": job_id, "name": name, "status": {"state": "RUNNING"}})
            for job_id, name in self.queue.items()
        ]

    async def cancel_job(self, job_id: str) -> bool:
        await self._request("delete", job_id)
        return self.queue.pop(job_id, None) is not None

    async def list_files(self, path: str, *, recursive: bool) -> list[FileInfo]:
        await self._request("ls", path)
        if not any(each.startswith(path) for each in self.directories):
            raise errors.RemotePathNotFound(path)
        return [
            FileInfo.model_validate({"name": each[len(path) + 1 :], "type": "l", "linkTarget": target})
            for each, target in self.links.items()
            if each.startswith(f"{path}/")
        ]

    async def symlink(self, target: str, link: str) -> None:
        await self._request("symlink", link)
        if link.rpartition("/")[0] not in self.directories:
            raise errors.RemotePathNotFound(link)
        if link in self.links:
            raise errors.RemotePathExists(link)
        self.links[link] = target

    async def has_directory(self, path: str) -> bool:
        return path in self.directories

    async def make_directory(self, path: str) -> None:
        self.directories.add(path)


@pytest.fixture(autouse=True)
def _known_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(*_: Any) -> None:
        return None

    monkeypatch.setattr("firecrest_core.claims.directory.check_working_dir", check)


async def test_two_lists_serve_all_and_the_queue_is_emptied_before_the_first_claim() -> None:
    jobs = [job(number) for number in range(200)]
    cluster = Cluster(*jobs)
    assert await lifecycle.cancel_all(cluster, jobs) == {}
    assert cluster.queue == {}
    assert (cluster.requests["list"], cluster.requests["delete"]) == (2, 200)
    assert len(cluster.links) == 200
    first_claim = next(at for at, what in enumerate(cluster.order) if what.startswith("ls"))
    assert sum(what.startswith("delete") for what in cluster.order[:first_claim]) == 200
    assert cluster.most_in_flight <= cancel_many._AT_ONCE


async def test_a_job_that_holds_the_claim_and_is_not_in_the_list_is_deleted() -> None:
    one = job(1)
    cluster = Cluster()
    cluster.hold(one, "77")
    assert await lifecycle.cancel_all(cluster, [one]) == {}
    assert "delete 77" in cluster.order


async def test_a_job_that_appears_meanwhile_is_deleted() -> None:
    one = job(1)
    cluster = Cluster()
    symlink = cluster.symlink

    async def late(target: str, link: str) -> None:
        await symlink(target, link)
        cluster.queue["78"] = one.key.next_generation().job_name("relax")

    cluster.symlink = late  # type: ignore[method-assign]
    assert await lifecycle.cancel_all(cluster, [one]) == {}
    assert cluster.queue == {}


async def test_others_of_the_same_list_are_left_alone() -> None:
    one, newer, other = job(1), job(2), job(3)
    cluster = Cluster(one, other)
    cluster.queue["99"] = job(1, epoch=1).key.job_name("relax")
    cluster.queue["100"] = "allocation"
    await lifecycle.cancel_all(cluster, [one, newer])
    assert set(cluster.queue) == {"3", "99", "100"}


async def test_jobs_without_a_key() -> None:
    jobs = [Job(system="rig", job_id=str(number)) for number in (7, 8)]
    cluster = Cluster()
    assert await lifecycle.cancel_all(cluster, jobs) == {}
    assert cluster.order == ["delete 7", "delete 8"]


@pytest.mark.parametrize("kind", ["ls /wd/.firecrest/task1", "delete 1"])
@pytest.mark.parametrize("error", [errors.RequestRejected("no"), errors.RemotePathRefused("outside")])
async def test_one_that_cannot_be_cancelled_does_not_stop_the_others(kind: str, error: Exception) -> None:
    jobs = [job(number) for number in (1, 2, 3)]
    cluster = Cluster(*jobs)
    cluster.failing[kind] = error
    assert await lifecycle.cancel_all(cluster, jobs) == {jobs[0]: error}
    assert set(cluster.queue) <= {"1"}
    assert len(cluster.links) >= 2


@pytest.mark.parametrize(
    "error", [errors.AuthenticationFailed("no"), errors.HostNotFound("no"), errors.TLSFailed("no")]
)
async def test_a_refused_login_is_tried_once_for_all(error: errors.FirecRESTError) -> None:
    jobs = [job(number) for number in range(100)]
    cluster = Cluster(*jobs)
    cluster.failing[""] = error
    with pytest.raises(type(error)):
        await lifecycle.cancel_all(cluster, jobs)
    assert cluster.requests == {"list": 1}


async def test_a_login_that_is_refused_in_the_middle_ends_it() -> None:
    jobs = [job(number) for number in range(100)]
    cluster = Cluster()
    cluster.failing["ls"] = errors.AuthenticationFailed("no")
    with pytest.raises(errors.AuthenticationFailed):
        await lifecycle.cancel_all(cluster, jobs)
    assert cluster.requests["ls"] <= 2 * cancel_many._AT_ONCE


async def test_a_list_that_always_fails_does_not_keep_the_claims_from_being_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cancel_many, "LONGEST_WITHOUT_LIST", 0.0)
    jobs = [job(number) for number in range(3)]
    cluster = Cluster(*jobs)
    cluster.failing["list"] = errors.AnswerTooLarge("too long")
    assert await lifecycle.cancel_all(cluster, jobs) == {}
    assert len(cluster.links) == 3


def test_retries_of_all_jobs_together_end_after_five_minutes(virtually: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job(number) for number in range(100)]
    cluster = Cluster(*jobs)
    cluster.failing["ls"] = errors.ServerFault("the file system hangs")

    async def run() -> float:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr("firecrest_core.api.backoff.time.monotonic", loop.time)
        problems = await lifecycle.cancel_all(cluster, jobs)
        assert set(problems) == set(jobs)
        return loop.time()

    assert virtually(run()) < 600.0
    assert cluster.queue == {}  # the jobs in the queue do not wait for the file system


# --- those that cancel one job each ------------------------------------------------------------------


class Client:
    """The class of the queue's clients; counts them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.made, self.open = cluster, 0, 0

    def __call__(self, connection: Connection) -> Client:
        self.made += 1
        return self

    def system(self, name: str) -> Cluster:
        return self.cluster

    async def __aenter__(self) -> Client:
        self.open += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open -= 1
        await asyncio.sleep(0)


async def test_a_thousand_callers_share_one_client_and_two_lists() -> None:
    jobs = [job(number) for number in range(1000)]
    client: Any = Client(cluster := Cluster(*jobs))
    await asyncio.gather(*(lifecycle.cancel_together(CONNECTION, one, client) for one in jobs))
    assert (client.made, client.open) == (1, 0)
    assert cluster.requests["list"] == 2
    assert cluster.queue == {}


async def test_a_caller_that_comes_while_the_client_is_closed_is_served() -> None:
    jobs = [job(number) for number in range(2)]
    client: Any = Client(cluster := Cluster(*jobs))
    second: list[asyncio.Task[None]] = []

    async def close(*_: object) -> None:
        if not second:
            second.append(asyncio.create_task(lifecycle.cancel_together(CONNECTION, jobs[1], client)))
            await asyncio.sleep(0.01)

    client.__class__ = type("Late", (Client,), {"__aexit__": lambda self, *_: close()})
    await lifecycle.cancel_together(CONNECTION, jobs[0], client)
    while not second:
        await asyncio.sleep(0)
    await second[0]
    assert cluster.queue == {}


async def test_each_caller_gets_the_problem_of_its_own_job(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job(number) for number in (1, 2)]
    client: Any = Client(cluster := Cluster(*jobs))
    cluster.failing["delete 1"] = errors.RequestRejected("an array of PBS")
    first, second = await asyncio.gather(
        *(lifecycle.cancel_together(CONNECTION, one, client) for one in jobs), return_exceptions=True
    )
    assert isinstance(first, errors.RequestRejected)
    assert second is None


async def test_all_callers_hear_of_a_refused_login_and_the_next_one_tries_anew() -> None:
    jobs = [job(number) for number in range(50)]
    client: Any = Client(cluster := Cluster(*jobs))
    cluster.failing["list"] = errors.AuthenticationFailed("no")
    outcomes = await asyncio.gather(
        *(lifecycle.cancel_together(CONNECTION, one, client) for one in jobs), return_exceptions=True
    )
    assert {type(each) for each in outcomes} == {errors.AuthenticationFailed}
    assert len({id(each) for each in outcomes}) == 50  # each raises its own, or one would collect all tracebacks
    assert cluster.requests == {"list": 1}
    cluster.failing.clear()
    await lifecycle.cancel_together(CONNECTION, jobs[0], client)
    assert "0" not in cluster.queue


async def test_a_caller_that_is_gone_does_not_disturb_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel_queue, "_GATHERING", 0.01)
    jobs = [job(number) for number in (1, 2)]
    client: Any = Client(cluster := Cluster(*jobs))
    callers = [asyncio.create_task(lifecycle.cancel_together(CONNECTION, one, client)) for one in jobs]
    await asyncio.sleep(0)
    callers[0].cancel()
    await callers[1]
    assert cluster.queue == {}
