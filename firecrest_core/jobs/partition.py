"""``partition="auto"``: the partitions that can run a job, of which Slurm takes the one that starts it first.

sbatch takes several partitions, ``--partition=normal,debug``, and Slurm, which knows their limits, priorities and
queues, starts the job where that is possible first. FirecREST tells no partition's time limit, memory, GPUs or access
rights, so only what it does tell is judged here: whether a partition is up, its nodes, their CPUs and features.

Facts: Slurm's sbatch manual, ``--partition``; FirecREST's ``GET /status/{system}/partitions`` and ``/nodes``.
"""

from __future__ import annotations

import logging
from asyncio import gather
from dataclasses import dataclass, replace

from firecrest_core.api.client import System
from firecrest_core.api.nodes import NodeInfo, NodeLoad, PartitionInfo
from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec.demand import Demand
from firecrest_core.spec.jobspec import JobSpec

log = logging.getLogger(__name__)

AUTO = "auto"


@dataclass(frozen=True)
class Candidate:
    """A partition for a job.

    :param partition: the partition
    :param nodes: those of its nodes that the job could run on. A node that is down counts: it may be back before the
        job starts.
    """

    partition: PartitionInfo
    nodes: tuple[NodeInfo, ...]

    @property
    def free(self) -> int:
        """How many of its nodes are free now."""
        return sum(node.load is NodeLoad.FREE for node in self.nodes)

    def problem(self, demand: Demand) -> str | None:
        """Return what it lacks, as words behind "it has"; ``None`` if the job can run there.

        :param demand: what the job needs
        """
        if len(self.nodes) < demand.nodes:
            kind = f" with {_cpus(demand.cpus_per_node)}" if demand.cpus_per_node > 1 else ""
            kind += f" and the features {', '.join(sorted(demand.features))}" if demand.features else ""
            return f"{len(self.nodes)} of the {demand.nodes} nodes{kind}"
        if (cpus := sum(node.cpus for node in self.nodes)) < demand.cpus:
            return f"{cpus} of the {_cpus(demand.cpus)}"
        return None


async def choose_partition(system: System, spec: JobSpec) -> JobSpec:
    """Return a job with partitions in the place of ``auto``, and log which and why. Any other job stays as it is.

    The partitions are in the order in which they are preferred: those with the most free nodes come first. One that is
    not up is left out, unless no other can run the job. A site's own partition ``auto`` is taken by its name.

    :param system: where the job will run
    :param spec: the job
    :raises InvalidJobSpec: no partition can run it, with what each of them lacks; or the scheduler is PBS, whose
        default queue routes jobs by itself
    """
    if spec.partition != AUTO:
        return spec
    if await system.scheduler() == "pbs":
        raise InvalidJobSpec(
            "partition", "'auto' is for Slurm; PBS's default queue routes jobs by itself, so leave it out"
        )
    demand = Demand.of(spec)
    candidates = await find_candidates(system, demand)
    if any(each.partition.name == AUTO for each in candidates):
        return spec
    fitting = [candidate for candidate in candidates if candidate.problem(demand) is None]
    if not fitting:
        lacks = "; ".join(f"{each.partition.name} has {each.problem(demand)}" for each in candidates)
        raise InvalidJobSpec("partition", f"no partition of {system} can run the job: {lacks or 'it shows none'}")
    up = [candidate for candidate in fitting if candidate.partition.is_up]
    chosen = sorted(up or fitting, key=lambda candidate: -candidate.free)
    left_out = [each for each in candidates if each not in chosen]
    log.info("%s", _summary(system, chosen, left_out, demand))
    return replace(spec, partition=",".join(candidate.partition.name for candidate in chosen))


async def find_candidates(system: System, demand: Demand) -> list[Candidate]:
    """Return all partitions of a system, each with the nodes that a job could run on.

    :param system: the system; with PBS, no queue has nodes here, because PBS does not tell which
    :param demand: what the job needs
    """
    partitions, nodes = await gather(system.get_partitions(), system.get_nodes())
    able = [node for node in nodes if node.cpus >= demand.cpus_per_node and demand.features <= frozenset(node.features)]
    return [Candidate(each, tuple(node for node in able if each.name in node.partitions)) for each in partitions]


def _summary(system: System, chosen: list[Candidate], left_out: list[Candidate], demand: Demand) -> str:
    names = ", ".join(f"{each.partition.name} ({each.free} of {len(each.nodes)} nodes are free)" for each in chosen)
    line = f"partition: auto is {names} on {system}."
    if len(chosen) > 1:
        line += " Slurm takes the one that can start the job first."
    reasons = [
        f"{each.partition.name} ({f'has {problem}' if (problem := each.problem(demand)) else 'is not up'})"
        for each in left_out
    ]
    return f"{line} Left out: {', '.join(reasons)}." if reasons else line


def _cpus(number: int) -> str:
    return f"{number} CPU{'s' if number != 1 else ''}"
