"""The jobs of the recorded timelines, run on a real Slurm and waited for through the core.

`tests/core` tests the waiting against the recordings. Here the same scripts run again, and the results have to be those
of the recorded jobs.
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

from firecrest_core import Connection, FirecRESTClient, Job, JobResult, JobSpec, JobState, errors, lifecycle
from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.watch.watcher import JobWatcher
from harness.errors import ServiceFailed
from harness.firecrest import FirecRESTServer
from harness.slurm import Slurm

TIMELINES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent.parent / "contract" / "timelines").glob("*.json"))
}
#: Jobs that can run at the same time, with state, exit code and signal of their end.
CONCURRENT = {
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
#: Jobs that need the whole node or its failure.
EXCLUSIVE = {
    "node_fail": (JobState.NODE_FAIL, 0, 0),
    "preempted_cancel": (JobState.PREEMPTED, 0, 0),
    "preempted_requeue": (JobState.COMPLETED, 0, 0),
}
#: Jobs that never start, with the reason that Slurm gives.
STUCK = {"bad_time": "PartitionTimeLimit", "deadline": "JobHeldUser"}
REJECTED = {name for name, line in TIMELINES.items() if line["response"]["status"] != 201}
#: Timelines that are not run here, with the reason.
NOT_RUN = {
    "bad_account": "this Slurm rejects it, as a centre's does",
    "timeout": "takes more than a minute; tests/live has it",
}


def test_every_timeline_is_covered() -> None:
    assert {*CONCURRENT, *EXCLUSIVE, *STUCK, *REJECTED, *NOT_RUN} == set(TIMELINES)


class TimelineRunner:
    """Submits the jobs of the timelines and repeats what was done to them while they were recorded."""

    def __init__(self, slurm: Slurm, connection: Connection, client: FirecRESTClient, workdir: str) -> None:
        self.slurm = slurm
        self.connection = connection
        self.client = client
        self.workdir = workdir
        #: The id of a failed job, which replaces the one that a recorded dependency names.
        self.failed_job_id = ""

    def request(self, name: str) -> SubmitRequest:
        recorded = TIMELINES[name]["request"]["json"]["job"]
        return SubmitRequest(
            name=recorded["name"],
            working_directory=f"{self.workdir}/none" if name == "bad_workdir" else self.workdir,
            script=recorded["script"].replace("afterok:15", f"afterok:{self.failed_job_id}"),
            account=recorded.get("account"),
            partition=recorded.get("partition"),
        )

    async def submit(self, name: str) -> Job:
        request = self.request(name)
        job_id = await self.client.system().submit_job(request)
        indices = JobSpec(script=request.script, working_dir=self.workdir).array_indices
        return Job(system="local", job_id=job_id, name=name, array_indices=indices)

    async def run(self, name: str) -> JobResult:
        """Submit a job and wait for its end."""
        job = await self.submit(name)
        # The usual grace period of a minute is for jobs that may be requeued.
        grace = 3 if CONCURRENT.get(name) is None and EXCLUSIVE[name][0].provisional else None
        watcher = JobWatcher.shared(self.connection, "local")
        wait = watcher.wait(job, poll_interval=1, timeout=120, provisional_grace=grace)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.act_on(name, job))
            waiting = group.create_task(wait)
        return waiting.result()

    async def act_on(self, name: str, job: Job) -> None:
        """Do to the job what was done to the recorded one."""
        id_ = job.job_id
        if name in ("cancelled_pending", "too_many_nodes"):
            await self.wait_for_state(job, JobState.PENDING)
            await self.client.system().cancel_job(id_)
        elif name == "cancelled_running":
            await self.wait_for_start(job)
            await self.client.system().cancel_job(id_)
        elif name == "cancelled_by_root":
            await self.wait_for_start(job)
            self.slurm.command("scancel", id_)
        elif name == "held_then_released":
            await self.wait_for_state(job, JobState.PENDING)
            self.scontrol("release", id_)
        elif name == "suspended":
            await self.wait_for_start(job)
            self.scontrol("suspend", id_)
            await self.wait_for_state(job, JobState.SUSPENDED)
            self.scontrol("resume", id_)
        elif name == "requeued":
            await self.wait_for_start(job)
            self.scontrol("requeue", id_)
        elif name in ("preempted_cancel", "preempted_requeue"):
            await self.wait_for_start(job)
            spec = JobSpec(command="sleep 1", working_dir=self.workdir, partition="high", directives=["--exclusive"])
            await lifecycle.submit(self.client.system(), spec)
        elif name == "node_fail":
            await self.wait_for_start(job)
            self.scontrol("update", "NodeName=localhost", "State=down", "Reason=test")
            await self.wait_for_state(job, JobState.NODE_FAIL)
            await until(self.node_is_up)

    def node_is_up(self) -> bool:
        # A node that registers again comes back by itself, and Slurm refuses to resume a node that is up.
        with suppress(ServiceFailed):
            self.scontrol("update", "NodeName=localhost", "State=resume")
        return "State=IDLE " in self.scontrol("show", "node", "localhost")

    async def wait_for_state(self, job: Job, state: JobState) -> None:
        """Wait until Slurm itself shows the job in a state."""
        await until(lambda: f"JobState={state.value}" in self.scontrol("show", "job", job.job_id))

    async def wait_for_start(self, job: Job) -> None:
        """Wait until its script runs: Slurm holds a job forever if it is requeued before its node has launched it."""
        await until(Path(self.workdir, f"slurm-{job.job_id}.out").exists)

    def scontrol(self, *words: str) -> str:
        return self.slurm.command("scontrol", *words)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def run_with_runner(
    slurm: Slurm, firecrest: FirecRESTServer, connection: Connection
) -> Callable[[Callable[[TimelineRunner], Awaitable[Any]]], Any]:
    """Run a coroutine function with a `TimelineRunner`."""

    def run_with_runner(function: Callable[[TimelineRunner], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            async with FirecRESTClient(connection) as client:
                workdir = firecrest.variables["FIRECREST_WORKDIR"]
                return await function(TimelineRunner(slurm, connection, client, workdir))

        return asyncio.run(run())

    return run_with_runner


@pytest.fixture(scope="module")
def results(run_with_runner: Any) -> dict[str, JobResult]:
    """The results of all concurrent jobs."""

    async def run_all(runner: TimelineRunner) -> dict[str, JobResult]:
        runner.failed_job_id = (await runner.run("failed")).job_id
        ends = await asyncio.gather(*(runner.run(name) for name in CONCURRENT))
        return dict(zip(CONCURRENT, ends, strict=True))

    return dict(run_with_runner(run_all))


@pytest.mark.parametrize("name", CONCURRENT)
def test_a_concurrent_job_ends_as_recorded(name: str, results: dict[str, JobResult]) -> None:
    result = results[name]
    assert (result.state, result.exit_code, result.signal) == CONCURRENT[name]


@pytest.mark.parametrize("name", ["array", "array_throttled"])
def test_every_element_of_an_array_is_reported(name: str, results: dict[str, JobResult]) -> None:
    failing = JobState.FAILED if name == "array" else JobState.COMPLETED
    states = [(one.index, one.state) for one in results[name].elements]
    assert states == [(0, JobState.COMPLETED), (1, failing), (2, JobState.COMPLETED), (3, failing)]


@pytest.mark.parametrize("name", EXCLUSIVE)
def test_an_exclusive_job_ends_as_recorded(name: str, run_with_runner: Any, slurm: Slurm) -> None:
    result = run_with_runner(lambda runner: runner.run(name))
    assert (result.state, result.exit_code, result.signal) == EXCLUSIVE[name]


@pytest.mark.parametrize("name", STUCK)
def test_the_reason_of_a_stuck_job_is_reported(name: str, run_with_runner: Any) -> None:
    messages: list[str] = []

    async def wait_in_vain(runner: TimelineRunner) -> None:
        job = await runner.submit(name)
        expected = errors.JobStuck if name == "bad_time" else errors.WaitTimedOut
        with pytest.raises(expected):
            await lifecycle.wait(
                runner.client.system(),
                job,
                poll_interval=1,
                timeout=10,
                fail_if_stuck=True,
                on_message=messages.append,
            )
        await runner.client.system().cancel_job(job.job_id)

    run_with_runner(wait_in_vain)
    assert STUCK[name] in messages[-1]


@pytest.mark.parametrize("name", [*sorted(REJECTED), "bad_account"])
def test_a_rejection_has_slurms_message(name: str, firecrest: FirecRESTServer) -> None:
    variables = firecrest.variables
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
