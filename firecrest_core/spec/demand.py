"""What a job asks of the nodes that it runs on, as far as its specification and its script's own lines say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from typing import Self

from firecrest_core.indices import Indices
from firecrest_core.spec import quantities
from firecrest_core.spec.jobspec import JobSpec


@dataclass(frozen=True)
class Demand:
    """The least that a job needs.

    :param nodes: number of nodes
    :param cpus: CPUs on all of its nodes together
    :param cpus_per_node: CPUs on each node
    :param features: features that each node must have; those of a constraint with ``|`` and the like are not judged
    """

    nodes: int
    cpus: int
    cpus_per_node: int
    features: frozenset[str] = frozenset()

    @classmethod
    def of(cls, spec: JobSpec) -> Self:
        """Return what a job for Slurm needs. A line of the script that is not understood counts as not there.

        :param spec: the job
        """
        own = spec.script_options()

        def number(value: int | None, option: str) -> int | None:
            return value if value is not None else quantities.whole_number(own.get(option))

        per_task = number(spec.cpus_per_task, "cpus-per-task") or 1
        per_node = number(spec.ntasks_per_node, "ntasks-per-node")
        tasks = number(spec.ntasks, "ntasks")
        nodes = _least(spec.nodes if spec.nodes is not None else own.get("nodes"))
        if nodes is None:
            nodes = ceil(tasks / per_node) if tasks and per_node else 1
        tasks = tasks or nodes * (per_node or 1)
        constraint = spec.constraint or own.get("constraint") or ""
        plain = re.fullmatch(r"[\w.-]+(?:[&,][\w.-]+)*", constraint, re.ASCII)
        return cls(
            nodes=nodes,
            cpus=tasks * per_task,
            cpus_per_node=(per_node or 1) * per_task,
            features=frozenset(re.split("[&,]", constraint)) if plain else frozenset(),
        )


def _least(nodes: int | str | None) -> int | None:
    try:
        normal = None if nodes is None else quantities.nodes(nodes)
    except ValueError:  # sbatch will say so
        return None
    return Indices.parse(normal).first if isinstance(normal, str) else normal
