"""One training in a real Slurm that ends its job five times: for memory, twice for time, for a node, and when done."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from firecrest_core import Chain, Connection, FirecRESTClient, Job, JobResult, JobSpec, JobState, lifecycle
from firecrest_core.campaign import Campaign
from firecrest_core.escalation import Escalation
from firecrest_core.jobs.key import ClaimKey
from harness.firecrest import FirecRESTServer
from harness.slurm import Slurm, can_limit_memory, missing_packages

TRAINING = """
import os, signal, time
from pathlib import Path

stopping = False

def stop(*_):
    global stopping
    stopping = True

signal.signal(signal.SIGUSR1, stop)
job = os.environ["SLURM_JOB_ID"]
checkpoints, log = Path("ckpt"), open("log", "a", buffering=1)
checkpoints.mkdir(exist_ok=True)
step = first = max((int(one.name) for one in checkpoints.iterdir()), default=0)
while not Path("finish").exists() and not (stopping and step > first):
    print("begin", step, job, file=log)
    if step == 2 and os.environ["SLURM_MEM_PER_NODE"] == "150":
        memory = b"x" * 300 * 1024 * 1024
    time.sleep(0.5)
    step += 1
    (checkpoints / ".draft").write_text("")
    (checkpoints / ".draft").rename(checkpoints / str(step))
    print("wrote", step, job, file=log)
if Path("finish").exists():
    Path("train.done").touch()
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Iterator[Slurm]:
    """A Slurm that enforces memory limits."""
    packages = missing_packages()
    require(not packages, f"a real Slurm: apt-get install {' '.join(packages)}")
    if not can_limit_memory():
        pytest.skip("no cgroups of version 1 here, so Slurm cannot enforce memory limits")
    with Slurm(tmp_path_factory.mktemp("slurm") / "slurm", limits_memory=True) as slurm:
        yield slurm


@pytest.fixture(scope="module")
def firecrest(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirecRESTServer]:
    """An embedded FirecREST in its own process, with that Slurm."""
    with FirecRESTServer(tmp_path_factory.mktemp("slurm") / "cluster", slurm=slurm) as server:
        server.wait()
        yield server


@pytest.fixture
async def client(firecrest: FirecRESTServer) -> AsyncIterator[FirecRESTClient]:
    """A client of `firecrest`."""
    async with FirecRESTClient(Connection.from_environment(firecrest.variables)) as client:
        yield client


@pytest.mark.parametrize(("command", "exit_code"), [("{}", 125), ("srun {}", 1), ("srun {} || exit 0", 0)])
async def test_a_job_whose_memory_has_run_out(
    client: FirecRESTClient, workdir: Path, command: str, exit_code: int
) -> None:
    taking = f"{sys.executable} -c 'x = b\"x\" * 300 * 1024 * 1024'"
    spec = JobSpec(command=command.format(taking), working_dir=str(workdir), memory="50M")
    result = await lifecycle.wait(client.system(), await lifecycle.submit(client.system(), spec), poll_interval=1)
    assert result.state is (JobState.COMPLETED if exit_code == 0 else JobState.OUT_OF_MEMORY)


async def test_a_training_ends_well_whatever_ends_its_jobs(
    client: FirecRESTClient, workdir: Path, slurm: Slurm
) -> None:
    (workdir / "training.py").write_text(TRAINING)
    campaign = Campaign(
        client.system(),
        JobSpec(
            command=f"srun {sys.executable} training.py",
            working_dir=str(workdir),
            memory="150M",
            time_limit=1,
            requeue=False,
        ),
        Escalation.parse(
            {
                "out_of_memory": {"memory": "x4", "max": "2G"},
                "time_limit": {"time_limit": "x2", "max": "00:10:00"},
                "node_failure": {"max": 1},
            }
        ),
        Chain(max_jobs=8, signal="USR1@10", done="train.done", checkpoint="ckpt/*"),
    )
    log = workdir / "log"
    ended: list[JobState] = []
    job: Job | JobResult = await campaign.submit(ClaimKey("train"), first_attempt=True)
    while isinstance(job, Job):
        waiting = asyncio.create_task(lifecycle.wait(client.system(), job, poll_interval=1))
        if len(ended) >= 3:  # the fourth job loses its node, and the fifth one finishes
            while not re.search(rf"wrote \d+ {job.job_id}\n", log.read_text()):
                assert not waiting.done()
                await asyncio.sleep(0.1)
        if len(ended) == 3:
            slurm.command("scontrol", "update", "nodename=localhost", "state=down", "reason=test")
            slurm.command("scontrol", "update", "nodename=localhost", "state=resume")
        elif len(ended) == 4:
            (workdir / "finish").touch()
        result = await waiting
        ended.append(result.state)
        job = await campaign.follow(job, result)
    assert job.succeeded
    assert job.course is not None
    causes = [earlier.cause for earlier in job.course.earlier_jobs]
    assert causes == ["out_of_memory", "chain", "chain", "node_failure"]
    assert job.course.memory == "600M"
    lines = log.read_text().splitlines()
    written = [int(line.split()[1]) for line in lines if line.startswith("wrote")]
    assert written == list(range(1, len(written) + 1))  # no step was done twice
