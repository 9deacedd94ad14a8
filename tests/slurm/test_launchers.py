"""Launchers start real processes, which meet each other, in a real Slurm."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import FirecRESTClient, JobSpec, JobState, lifecycle
from firecrest_core.jobs.key import ClaimKey

STAND_INS = Path(__file__).parent.parent / "stand_ins"
ALL_REDUCE = shlex.join([sys.executable, str(STAND_INS / "all_reduce.py")])


async def run(client: FirecRESTClient, workdir: Path, **fields: Any) -> tuple[JobState, list[str]]:
    """Run a job with a claim, and torchrun and ray on its PATH; return its state and the sorted lines of its output."""
    programs = workdir / "bin"
    programs.mkdir()
    for name in ("torchrun", "ray"):
        (programs / name).symlink_to(STAND_INS / name)
    setup = [f"export PATH={programs}:$PATH", *fields.pop("setup", ())]
    spec = JobSpec(working_dir=str(workdir), stdout="out", stderr="err", setup=setup, **fields)
    job = await lifecycle.submit(client.system(), spec, ClaimKey("launch"), first_attempt=True)
    result = await lifecycle.wait(client.system(), job, poll_interval=1, timeout=120)
    return result.state, sorted((workdir / "out").read_text().splitlines())


def ranks(number: int) -> list[str]:
    return [f"rank {rank} of {number}, local {rank}, sum {sum(range(number))}" for rank in range(number)]


@pytest.mark.parametrize("launcher", ["srun", "torchrun"])
async def test_the_processes_meet(client: FirecRESTClient, workdir: Path, launcher: str) -> None:
    assert await run(client, workdir, command=ALL_REDUCE, launcher=launcher, ntasks=4) == (JobState.COMPLETED, ranks(4))


async def test_mpirun_reads_the_tasks_from_slurm(
    client: FirecRESTClient, workdir: Path, require: Callable[[bool, str], None]
) -> None:
    require(shutil.which("mpirun") is not None, "mpirun is not installed (Debian's openmpi-bin)")
    names = {"RANK": "RANK", "LOCAL_RANK": "LOCAL_RANK", "WORLD_SIZE": "SIZE"}
    variables = " ".join(f"{name}=$OMPI_COMM_WORLD_{mpi}" for name, mpi in names.items())
    done = await run(
        client,
        workdir,
        command=f"{variables} {ALL_REDUCE}",
        launcher="mpirun",
        ntasks=3,
        environment={"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "MASTER_ADDR": "localhost"},
        setup=["export MASTER_PORT=$((20000 + SLURM_JOB_ID % 12000))"],
    )
    assert done == (JobState.COMPLETED, ranks(3))


async def test_ray_runs_the_command_once_with_all_cpus(client: FirecRESTClient, workdir: Path) -> None:
    state, lines = await run(client, workdir, command="ray status", launcher="ray", ntasks=2, cpus_per_task=2)
    assert state is JobState.COMPLETED
    assert lines.count(" 1 node_0") == lines.count(" 0.0/4.0 CPU") == 1


async def test_one_process_that_fails_ends_all(client: FirecRESTClient, workdir: Path) -> None:
    command = "[ $RANK != 1 ] || exit 3; sleep 600"
    state, _ = await run(client, workdir, command=command, launcher="srun", ntasks=2, time_limit=5)
    assert state is JobState.FAILED


async def test_each_process_of_srun_has_its_cpus(client: FirecRESTClient, workdir: Path) -> None:
    command = "echo $SLURM_CPUS_PER_TASK"
    _, lines = await run(client, workdir, command=command, launcher="srun", ntasks=2, cpus_per_task=3)
    assert lines == ["3", "3"]
