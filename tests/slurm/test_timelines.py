"""The recorded lives of jobs, lived again on a real Slurm and waited for through the core.

`tests/core` holds the waiting against the recordings; here the same scripts end as the recorded ones did, and
whoever waits for them is told so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.cluster import Cluster
from demo.services import ServiceFailed
from demo.slurm import Slurm
from firecrest_core import Connection, FirecRESTClient, Job, JobResult, JobSpec, JobState, errors, lifecycle
from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.watch.watcher import JobWatcher

TIMELINES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent.parent / "contract" / "timelines").glob("*.json"))
}
#: How those end that neither need the whole node nor the node's end: state, exit code, signal.
BESIDE_OTHERS = {
    "array": (JobState.FAILED, 1, 0),
    "array_throttled": (JobState.COMPLETED, 0, 0),
    "bad_workdir": (JobState.FAILED, 0, 53),
    "cancelled_by_root": (JobState.CANCELLED, 0, 0),
    "cancelled_pending": (JobState.CANCELLED, 0, 0),
    "cancelled_running": (JobState.CANCELLED, 0, 0),
    "completed": (JobState.COMPLETED, 0, 0),
    "dependency_never": (JobState.CANCELLED, 0, 0),
    "failed": (JobState.FAILED, 3, 0),
    "held_then_released": (JobState.COMPLETED, 0, 0),
    "instant": (JobState.COMPLETED, 0, 0),
    "requeued": (JobState.COMPLETED, 0, 0),
    "signalled": (JobState.FAILED, 0, 11),
    "steps": (JobState.COMPLETED, 0, 0),
    "suspended": (JobState.COMPLETED, 0, 0),
    "too_many_nodes": (JobState.CANCELLED, 0, 0),
}
ALONE = {
    "node_fail": (JobState.NODE_FAIL, 0, 0),
    "preempted_cancel": (JobState.PREEMPTED, 0, 0),
    "preempted_requeue": (JobState.COMPLETED, 0, 0),
}
WAITING = {"bad_time": "PartitionTimeLimit", "deadline": "JobHeldUser"}
REFUSED = {name for name, line in TIMELINES.items() if line["response"]["status"] != 201}
ELSEWHERE = {
    "bad_account": "this Slurm refuses it, as a centre's does",
    "timeout": "takes more than a minute; tests/live has it",
}


def test_every_timeline_is_played() -> None:
    assert {*BESIDE_OTHERS, *ALONE, *WAITING, *REFUSED, *ELSEWHERE} == set(TIMELINES)


class Player:
    """Submits recorded jobs and does to them what was done to the recorded ones."""

    def __init__(self, slurm: Slurm, connection: Connection, client: FirecRESTClient, workdir: str) -> None:
        self.slurm = slurm
        self.connection = connection
        self.client = client
        self.workdir = workdir
        #: Takes the place of a recorded job that failed.
        self.failed = ""

    def request(self, name: str) -> SubmitRequest:
        recorded = TIMELINES[name]["request"]["json"]["job"]
        return SubmitRequest(
            name=recorded["name"],
            working_directory=f"{self.workdir}/none" if name == "bad_workdir" else self.workdir,
            script=recorded["script"].replace("afterok:15", f"afterok:{self.failed}"),
            account=recorded.get("account"),
            partition=recorded.get("partition"),
        )

    async def submit(self, name: str) -> Job:
        request = self.request(name)
        job_id = await self.client.system().submit_job(request)
        indices = JobSpec(script=request.script, working_dir=self.workdir).array_indices
        return Job(system="local", job_id=job_id, name=name, array_indices=indices)

    async def live(self, name: str) -> JobResult:
        """A recorded job from its submission to its end."""
        job = await self.submit(name)
        # What may come back is given a minute, unless it can't.
        grace = 3 if BESIDE_OTHERS.get(name) is None and ALONE[name][0].provisional else None
        watcher = JobWatcher.shared(self.connection, "local")
        wait = watcher.wait(job, poll_interval=1, timeout=120, provisional_grace=grace)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.happen(name, job))
            waiting = group.create_task(wait)
        return waiting.result()

    async def happen(self, name: str, job: Job) -> None:
        """What was done to it meanwhile."""
        id_ = job.job_id
        if name in ("cancelled_pending", "too_many_nodes"):
            await self.seen(job, JobState.PENDING)
            await self.client.system().cancel_job(id_)
        elif name == "cancelled_running":
            await self.begun(job)
            await self.client.system().cancel_job(id_)
        elif name == "cancelled_by_root":
            await self.begun(job)
            self.slurm.command("scancel", id_)
        elif name == "held_then_released":
            await self.seen(job, JobState.PENDING)
            self.scontrol("release", id_)
        elif name == "suspended":
            await self.begun(job)
            self.scontrol("suspend", id_)
            await self.seen(job, JobState.SUSPENDED)
            self.scontrol("resume", id_)
        elif name == "requeued":
            await self.begun(job)
            self.scontrol("requeue", id_)
        elif name in ("preempted_cancel", "preempted_requeue"):
            await self.begun(job)
            spec = JobSpec(command="sleep 1", working_dir=self.workdir, partition="high", directives=["--exclusive"])
            await lifecycle.submit(self.client.system(), spec)
        elif name == "node_fail":
            await self.begun(job)
            self.scontrol("update", "NodeName=localhost", "State=down", "Reason=test")
            await self.seen(job, JobState.NODE_FAIL)
            await until(self.node_up)

    def node_up(self) -> bool:
        # A node that registers anew comes back by itself; what is up can't be resumed.
        with suppress(ServiceFailed):
            self.scontrol("update", "NodeName=localhost", "State=resume")
        return "State=IDLE " in self.scontrol("show", "node", "localhost")

    async def seen(self, job: Job, state: JobState) -> None:
        """Wait until Slurm itself has the job in a state."""
        await until(lambda: f"JobState={state.value}" in self.scontrol("show", "job", job.job_id))

    async def begun(self, job: Job) -> None:
        """Wait until its script runs: Slurm holds a job for good that is requeued before its node has launched it."""
        await until(Path(self.workdir, f"slurm-{job.job_id}.out").exists)

    def scontrol(self, *words: str) -> str:
        return self.slurm.command("scontrol", *words)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def play(slurm: Slurm, cluster: Cluster, connection: Connection) -> Callable[[Callable[[Player], Awaitable[Any]]], Any]:
    """Run something with a player."""

    def play(part: Callable[[Player], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            async with FirecRESTClient(connection) as client:
                return await part(Player(slurm, connection, client, cluster.variables["FIRECREST_WORKDIR"]))

        return asyncio.run(run())

    return play


@pytest.fixture(scope="module")
def results(play: Any) -> dict[str, JobResult]:
    """The ends of those that are lived at once."""

    async def part(player: Player) -> dict[str, JobResult]:
        player.failed = (await player.live("failed")).job_id
        ends = await asyncio.gather(*(player.live(name) for name in BESIDE_OTHERS))
        return dict(zip(BESIDE_OTHERS, ends, strict=True))

    return dict(play(part))


@pytest.mark.parametrize("name", BESIDE_OTHERS)
def test_life_ends_rightly(name: str, results: dict[str, JobResult]) -> None:
    result = results[name]
    assert (result.state, result.exit_code, result.signal) == BESIDE_OTHERS[name]


@pytest.mark.parametrize("name", ["array", "array_throttled"])
def test_every_element_of_an_array_is_told(name: str, results: dict[str, JobResult]) -> None:
    failing = JobState.FAILED if name == "array" else JobState.COMPLETED
    states = [(one.index, one.state) for one in results[name].elements]
    assert states == [(0, JobState.COMPLETED), (1, failing), (2, JobState.COMPLETED), (3, failing)]


@pytest.mark.parametrize("name", ALONE)
def test_life_alone_ends_rightly(name: str, play: Any, slurm: Slurm) -> None:
    result = play(lambda player: player.live(name))
    assert (result.state, result.exit_code, result.signal) == ALONE[name]


@pytest.mark.parametrize("name", WAITING)
def test_waiting_life_is_told_of(name: str, play: Any) -> None:
    told: list[str] = []

    async def part(player: Player) -> None:
        job = await player.submit(name)
        expected = errors.JobStuck if name == "bad_time" else errors.WaitTimedOut
        with pytest.raises(expected):
            await lifecycle.wait(
                player.client.system(), job, poll_interval=1, timeout=10, fail_if_stuck=True, on_message=told.append
            )
        await player.client.system().cancel_job(job.job_id)

    play(part)
    assert WAITING[name] in told[-1]


@pytest.mark.parametrize("name", [*sorted(REFUSED), "bad_account"])
def test_refusal_has_slurms_words(name: str, cluster: Cluster) -> None:
    variables = cluster.variables
    credentials = {
        "grant_type": "client_credentials",
        "client_id": variables["FIRECREST_CLIENT_ID"],
        "client_secret": variables["FIRECREST_CLIENT_SECRET"],
    }
    token = httpx.post(variables["AUTH_TOKEN_URL"], data=credentials).json()["access_token"]
    job = TIMELINES[name]["request"]["json"]["job"] | {"workingDirectory": variables["FIRECREST_WORKDIR"]}
    answer = httpx.post(
        f"{variables['FIRECREST_URL']}/compute/local/jobs",
        json={"job": job},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 500
    recorded = TIMELINES[name]["response"]["json"].get("message")
    unknown_account = "Batch job submission failed: Invalid account or account/partition combination specified\n"
    prefix = "Unexpected Slurm command response. exit_status:1 std_err:sbatch: error: "
    assert answer.json()["message"] == (recorded or prefix + unknown_account)
