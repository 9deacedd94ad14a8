"""``partition="auto"``: which partitions can run a job, and what one reads about it."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from firecrest_core import errors, lifecycle
from firecrest_core.api.client import System
from firecrest_core.api.nodes import NodeInfo, PartitionInfo
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.jobs.partition import choose_partition
from firecrest_core.spec.demand import Demand
from firecrest_core.spec.jobspec import JobSpec

JOB = {"working_dir": "/wd", "command": "hostname", "partition": "auto"}


def node(name: str, *partitions: str, cpus: int = 32, state: str = "IDLE", features: str = "mc") -> NodeInfo:
    return NodeInfo.model_validate(
        {"name": name, "cpus": cpus, "state": [state], "features": features, "partitions": list(partitions)}
    )


def partition(name: str, state: str = "UP") -> PartitionInfo:
    return PartitionInfo.model_validate({"name": name, "partition": state})


@pytest.fixture
def system() -> Any:
    system = AsyncMock(spec=System)
    system.__str__.return_value = system.name = "rig"
    system.scheduler.return_value = "slurm"
    system.get_nodes.return_value = [
        node("nid1", "long", "normal"),
        node("nid2", "long", "normal", state="ALLOCATED"),
        node("nid3", "debug"),
        node("nid4", "normal", cpus=128, features="gpu,mc", state="DOWN"),
    ]
    system.get_partitions.return_value = [partition("long"), partition("normal"), partition("debug"), partition("none")]
    return system


async def chosen(system: Any, **fields: Any) -> str | None:
    return (await choose_partition(system, JobSpec(**JOB | fields))).partition


@pytest.mark.parametrize(
    ("fields", "partitions"),
    [
        ({}, "long,normal,debug"),
        ({"nodes": 2}, "long,normal"),
        ({"nodes": "2-4"}, "long,normal"),
        ({"nodes": 3}, "normal"),
        ({"cpus_per_task": 64}, "normal"),
        ({"ntasks": 65}, "normal"),
        ({"constraint": "gpu"}, "normal"),
        ({"constraint": "gpu&mc"}, "normal"),
        ({"constraint": "gpu|mc"}, "long,normal,debug"),  # not judged
        ({"command": None, "script": "#!/bin/bash\n#SBATCH -N2 --partition=debug\nhostname\n"}, "long,normal"),
        ({"partition": "debug"}, "debug"),
        ({"partition": None}, None),
    ],
)
async def test_partitions_that_can_run_the_job(system, fields, partitions) -> None:
    assert await chosen(system, **fields) == partitions


async def test_most_free_nodes_come_first(system) -> None:
    system.get_nodes.return_value += [node("nid5", "debug")]
    assert await chosen(system) == "debug,long,normal"


async def test_the_reason_is_told(system, caplog) -> None:
    caplog.set_level(logging.INFO)
    await chosen(system, nodes=2)
    assert caplog.messages == [
        "partition: auto is long (1 of 2 nodes are free), normal (1 of 3 nodes are free) on rig. Slurm takes the one "
        "that can start the job first. Left out: debug (has 1 of the 2 nodes), none (has 0 of the 2 nodes)."
    ]


async def test_a_partition_that_is_not_up_is_the_last_choice(system, caplog) -> None:
    caplog.set_level(logging.INFO)
    system.get_partitions.return_value = [partition("normal", "DOWN"), partition("debug")]
    assert await chosen(system) == "debug"
    assert "Left out: normal (is not up)." in caplog.text
    assert await chosen(system, nodes=2) == "normal"


@pytest.mark.parametrize(
    ("fields", "lack"),
    [
        ({"nodes": 4}, "long has 2 of the 4 nodes; normal has 3 of the 4 nodes"),
        ({"constraint": "gpu", "cpus_per_task": 200}, "normal has 0 of the 1 nodes with 200 CPUs and the features gpu"),
        ({"ntasks": 400}, "normal has 192 of the 400 CPUs"),
    ],
)
async def test_no_partition_can_run_it(system, fields, lack) -> None:
    with pytest.raises(errors.InvalidJobSpec, match="^partition: no partition of rig can run the job: ") as raised:
        await chosen(system, **fields)
    assert lack in str(raised.value)


async def test_a_site_with_a_partition_of_that_name(system) -> None:
    system.get_partitions.return_value += [partition("auto")]
    assert await chosen(system) == "auto"


async def test_pbs_routes_by_itself(system) -> None:
    system.scheduler.return_value = "pbs"
    with pytest.raises(errors.InvalidJobSpec, match="leave it out"):
        await chosen(system)


@pytest.mark.parametrize("key", [None, ClaimKey("task", 0)])
async def test_what_is_submitted(system, key) -> None:
    system.submit_job.return_value = "57"
    await lifecycle.submit(system, JobSpec(**JOB), key, first_attempt=True)
    [request] = system.submit_job.await_args.args
    assert request.partition == "long,normal,debug"
    assert "#SBATCH --partition=long,normal,debug" in request.script


async def test_a_job_that_no_partition_can_run_any_more_runs_no_earlier_submission(system, mocker) -> None:
    """An answer was lost, so the job may be in the queue: it must not run after the task has failed."""
    system.list_files.side_effect = errors.RemotePathNotFound("no such directory")
    system.get_jobs.return_value = []
    system.get_nodes.return_value, system.client = [], Mock()
    take = mocker.patch("firecrest_core.claims.directory.ClaimDirectory.take", return_value=True)
    with pytest.raises(errors.InvalidJobSpec, match="no partition of rig can run the job"):
        await lifecycle.submit(system, JobSpec(**JOB), ClaimKey("task", 0))
    take.assert_awaited_once_with(ClaimKey("task", 0), "cancelled")


def test_demand_of_a_script() -> None:
    script = "#!/bin/bash\n#SBATCH --nodes=2 --ntasks-per-node=4\n#SBATCH -c 8\n#SBATCH --constraint=gpu\nhostname\n"
    spec = JobSpec(working_dir="/wd", script=script)
    assert Demand.of(spec) == Demand(nodes=2, cpus=64, cpus_per_node=32, features=frozenset({"gpu"}))
