"""What running jobs print, read within a budget: when, in which order, and what harms nothing. On a virtual clock."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Callable
from typing import Any, Self

import pytest

from firecrest_core import errors
from firecrest_core.api.models import FileInfo
from firecrest_core.connection import Connection
from firecrest_core.follow.follower import BUDGET, FollowedJob, OutputFollower
from firecrest_core.follow.live_output import LiveOutput, ShownOutput, show_rest
from firecrest_core.follow.output_file import OutputFile
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import JobStatus
from firecrest_core.states import JobState

CONNECTION = Connection(
    url="https://api.example.org", token_url="https://id.example.org", client_id="me", client_secret="secret"
)
RUNNING = JobStatus(state=JobState.RUNNING, nodes="nid001")


class Cluster:
    """The files of a system as functions of the time, behind a client that notes the requests."""

    def __init__(self) -> None:
        self.files: dict[str, Callable[[float], bytes]] = {}
        self.asked: list[tuple[float, str, str]] = []
        self.error: Exception | None = None
        self.is_open = False
        self.connection = CONNECTION
        cluster = self

        class Client:
            def __new__(cls, connection: Connection, *, attempts: int) -> Any:
                return cluster(connection, attempts=attempts)

        self.client = object.__new__(Client)

    def __call__(self, connection: Connection, *, attempts: int) -> Self:
        assert attempts == 1
        return self

    async def __aenter__(self) -> Self:
        self.is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_open = False

    def trust_url(self) -> None:
        pass

    def system(self, name: str) -> Self:
        return self

    async def list_files(self, path: str, *, hidden: bool, dereference: bool) -> list[FileInfo]:
        now = await self._ask("list", path)
        return [
            FileInfo(name=posixpath.basename(name), type="-", size=len(content(now)))
            for name, content in self.files.items()
            if posixpath.dirname(name) == path
        ]

    async def stat(self, path: str) -> Any:
        raise AssertionError("no size is asked for alone")

    async def read_from(self, path: str, offset: int, *, most: int = 0) -> str:
        now = await self._ask("read", path)
        if path not in self.files:
            raise errors.RemotePathNotFound(path)
        return self.files[path](now)[offset:].decode()

    async def _ask(self, what: str, path: str) -> float:
        now = asyncio.get_running_loop().time()
        self.asked.append((now, what, path))
        await asyncio.sleep(0.05)
        if self.error is not None:
            raise self.error
        return now


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def printing(every: float) -> Callable[[float], bytes]:
    """A line each so many seconds, which says when it was printed."""
    return lambda now: b"".join(b"%f\n" % (number * every) for number in range(int(now / every) + 1))


async def follow(cluster: Cluster, paths: list[str], seconds: float) -> dict[str, list[float]]:
    """Follow a job for each path, and return how late each line was seen, by path."""
    follower = OutputFollower.shared(CONNECTION, cluster)  # type: ignore[arg-type]
    clock, late = asyncio.get_running_loop().time, {path: list[float]() for path in paths}

    def on_written(file: OutputFile, written: Any) -> None:
        late[file.path] += [clock() - float(line) for line in written.lines]

    jobs = [FollowedJob("rig", [OutputFile(path)], on_written) for path in paths]
    for job in jobs:
        follower.add(job)
    await asyncio.sleep(seconds)
    for job in jobs:
        await follower.remove(job)
    assert not cluster.is_open
    return late


def rate(cluster: Cluster, seconds: float) -> float:
    return len(cluster.asked) / seconds


def most_in_a_second(cluster: Cluster) -> int:
    times = [at for at, _, _ in cluster.asked]
    return max(sum(at <= other < at + 0.999 for other in times) for at in times)


def test_one_job_is_seen_soon_and_costs_little(cluster: Cluster, virtually: Any) -> None:
    cluster.files["/wd/out"] = printing(7)
    late = virtually(follow(cluster, ["/wd/out"], 600))["/wd/out"]
    assert len(late) > 80
    assert max(late) <= 10.1
    assert max(late[:1]) < 1
    assert rate(cluster, 600) < 0.2


@pytest.mark.parametrize("every", [1, 30])
def test_many_jobs_share_two_requests_a_second_in_turn(cluster: Cluster, virtually: Any, every: float) -> None:
    """Each in a directory of its own. Then nobody is read more often than each fiftieth second, and nobody less."""
    paths = [f"/wd/{number}/out" for number in range(100)]
    cluster.files = dict.fromkeys(paths, printing(every))
    late = virtually(follow(cluster, paths, 600))
    assert rate(cluster, 600) <= BUDGET + 0.01
    assert most_in_a_second(cluster) <= 2
    assert all(max(one) <= 100 / BUDGET + 2 for one in late.values())
    counts = [sum(path == asked for _, _, asked in cluster.asked) for path in paths]
    assert max(counts) - min(counts) <= 1


def test_jobs_that_began_long_ago_are_not_outrun_by_new_ones(cluster: Cluster, virtually: Any) -> None:
    paths = [f"/wd/{number}/out" for number in range(60)]
    cluster.files = dict.fromkeys(paths, printing(5))

    async def run() -> dict[str, list[float]]:
        old = asyncio.create_task(follow(cluster, paths[:1], 400))
        await asyncio.sleep(200)
        await asyncio.gather(*(follow_alone(cluster, path, 200) for path in paths[1:]))
        return await old

    late = virtually(run())["/wd/0/out"]
    assert max(late) <= 60 / BUDGET + 3


async def follow_alone(cluster: Cluster, path: str, seconds: float) -> None:
    follower = OutputFollower.shared(CONNECTION, cluster)  # type: ignore[arg-type]
    job = FollowedJob("rig", [OutputFile(path)], lambda file, written: None)
    follower.add(job)
    await asyncio.sleep(seconds)
    await follower.remove(job)


def test_one_list_tells_which_of_a_directorys_jobs_have_printed(cluster: Cluster, virtually: Any) -> None:
    """A sweep: of a hundred jobs in one directory, each prints once in two minutes."""
    paths = [f"/wd/slurm-{number}.out" for number in range(100)]
    for number, path in enumerate(paths):
        cluster.files[path] = lambda now, number=number: b"".join(
            b"%f\n" % at for at in range(number, int(now) + 1, 120)
        )
    late = virtually(follow(cluster, paths, 600))
    assert rate(cluster, 600) <= BUDGET
    assert min(map(len, late.values())) >= 4
    assert max(max(one) for one in late.values()) <= 20
    assert sum(what == "list" for _, what, _ in cluster.asked) <= 200


def test_a_directory_that_cannot_be_listed_is_read_file_by_file(cluster: Cluster, virtually: Any, mocker: Any) -> None:
    paths = [f"/wd/{number}.out" for number in range(5)]
    cluster.files = dict.fromkeys(paths, printing(5))
    listing = mocker.patch.object(Cluster, "list_files", side_effect=errors.RequestRejected("no"))
    late = virtually(follow(cluster, paths, 100))
    assert listing.await_count == 1
    assert all(len(one) > 15 for one in late.values())


def test_a_server_that_is_away_is_left_alone(cluster: Cluster, virtually: Any) -> None:
    cluster.files = {path: printing(5) for path in ("/a/out", "/b/out")}
    cluster.error = errors.ServerUnreachable("away")

    async def run() -> dict[str, list[float]]:
        asyncio.get_running_loop().call_later(1000, setattr, cluster, "error", None)
        return await follow(cluster, ["/a/out", "/b/out"], 1200)

    late = virtually(run())
    assert len([at for at, _, _ in cluster.asked if at < 1000]) < 120
    assert all(one[-1] < 11 for one in late.values())


def test_a_callback_that_fails_ends_nothing(cluster: Cluster, virtually: Any) -> None:
    cluster.files = {path: printing(5) for path in ("/a/out", "/b/out")}

    def fail(*_: object) -> None:
        raise RuntimeError("the log is full")

    async def run() -> None:
        follower = OutputFollower.shared(CONNECTION, cluster)  # type: ignore[arg-type]
        bad = FollowedJob("rig", [OutputFile("/a/out")], fail)
        follower.add(bad)
        await follow_alone(cluster, "/b/out", 60)
        await follower.remove(bad)

    virtually(run())
    assert sum(path == "/b/out" for _, _, path in cluster.asked) > 5
    assert sum(path == "/a/out" for _, _, path in cluster.asked) > 5


# --- the output of one job ----------------------------------------------------------------------------


def job(**fields: Any) -> Job:
    return Job(**{"system": "rig", "job_id": "57", "stdout": "/wd/out", "stderr": "/wd/err"} | fields)


def watch(cluster: Cluster, virtually: Any, one: Job, *statuses: JobStatus, **options: Any) -> tuple[Any, Any]:
    """Return what was shown of a job that has each status for half a minute, and how much was shown."""
    lines: list[Any] = []

    async def run() -> list[ShownOutput]:
        live = LiveOutput(cluster, one, lambda *what: lines.append(what), lines.append, **options)  # type: ignore[arg-type]
        async with live:
            for status in statuses:
                live.on_status(status)
                await asyncio.sleep(30)
        return live.shown

    shown = virtually(run())
    return lines, shown


def test_both_streams_are_shown(cluster: Cluster, virtually: Any) -> None:
    cluster.files = {"/wd/out": lambda now: b"one\nunfinished", "/wd/err": lambda now: b"oh\n"}
    lines, shown = watch(cluster, virtually, job(), RUNNING)
    assert lines == [("out", ["one"]), ("err", ["oh"])]
    assert shown == [ShownOutput("out", "/wd/out", 4), ShownOutput("err", "/wd/err", 3)]

    asyncio.run(show_rest(cluster, shown, lambda *what: lines.append(what), lines.append))  # type: ignore[arg-type]
    assert lines[2:] == [("out", ["unfinished"])]


def test_one_file_for_both_is_read_once(cluster: Cluster, virtually: Any) -> None:
    cluster.files["/wd/nid001.out"] = lambda now: b"one\n"
    lines, _ = watch(cluster, virtually, job(stdout="/wd/%N.out", stderr="/wd/%N.out"), RUNNING)
    assert lines == [("out", ["one"])]


def test_only_a_job_that_runs_is_read(cluster: Cluster, virtually: Any) -> None:
    cluster.files["/wd/out"] = printing(1)
    pending = JobStatus(state=JobState.PENDING)
    lines, _ = watch(cluster, virtually, job(), pending, RUNNING, pending, pending)
    assert lines
    assert all(30 <= at <= 60.1 for at, _, _ in cluster.asked)


@pytest.mark.parametrize("path", [None, "/wd/%J-%q.out"])
def test_an_output_that_nobody_knows_is_not_read(cluster: Cluster, virtually: Any, path: str | None) -> None:
    assert watch(cluster, virtually, job(stdout=path, stderr=path), RUNNING) == ([], [])
    assert cluster.asked == []


@pytest.mark.parametrize(("element", "expected"), [(None, []), (3, [("out", ["three"])])])
def test_of_an_array_one_element_is_shown_if_wanted(
    cluster: Cluster, virtually: Any, element: int | None, expected: list[Any]
) -> None:
    cluster.files["/wd/57_003.out"] = lambda now: b"three\n"
    array = job(stdout="/wd/57_%3a.out", stderr="/wd/57_%3a.out", array_indices=Indices.of(range(9)))
    lines, _ = watch(cluster, virtually, array, RUNNING, element=element)
    assert lines == expected
    assert bool(cluster.asked) == bool(expected)
