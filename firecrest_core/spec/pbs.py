"""A job specification as ``#PBS`` lines.

Facts: PBS Professional's qsub manual.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec import arrays, quantities
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.options import quote, with_prefix

_PBS_CANNOT = ("qos", "constraint", "signal", "uenv")
_PBS_DEPENDENCIES = frozenset({"after", "afterany", "afternotok", "afterok"})


def may_run_again(spec: JobSpec, own: Mapping[str, str]) -> bool:
    """Tell whether the scheduler may run the job a second time: an array, or one whose user has asked for it.

    :param spec: the job
    :param own: the options that the script's own lines set
    """
    is_array = spec.array is not None or "array" in own
    return is_array or bool(spec.requeue) or (spec.requeue is None and own.get("rerunable") == "y")


def directives(spec: JobSpec, own: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the ``#PBS`` lines of a specification, the resources apart from the others.

    They are apart because qsub uses the first of two lines for the same resource, but the last for any other option.

    :param spec: the job
    :param own: the options that the script's own lines set
    :returns: (resources, the others)
    :raises InvalidJobSpec: PBS cannot express a field; the message begins with its name
    """
    for field in _PBS_CANNOT:
        if getattr(spec, field) is not None:
            raise InvalidJobSpec(
                field, "PBS has nothing like it; leave it out, or say it in PBS's own words in `directives`"
            )
    if spec.container is not None and spec.container_runtime != "apptainer":
        raise InvalidJobSpec("container", "EDFs and Pyxis are Slurm's; in PBS, give container_runtime='apptainer'")
    if spec.launcher not in (None, "mpirun"):
        raise InvalidJobSpec("launcher", f"{spec.launcher} needs srun, which PBS has not; give 'mpirun', or a script")
    resources = []
    if chunk := _chunk(spec):
        resources.append(f"#PBS -l select={chunk}")
    if spec.time_limit is not None:
        total = quantities.seconds(spec.time_limit)
        if total is None:
            raise InvalidJobSpec("time_limit", "PBS has no word for unlimited; leave it out for the queue's default")
        resources.append(f"#PBS -l walltime={quantities.clock(total)}")
    others = []
    if spec.name is not None:
        if not re.fullmatch(r"[A-Za-z][\w.+-]*", spec.name, re.ASCII):
            raise InvalidJobSpec(
                "name", f"{spec.name!r} must begin with a letter and hold only letters, digits, _ . + - for PBS"
            )
        others.append(f"-N {spec.name}")
    if spec.account is not None:
        others.append(f"-A {quote(spec.account)}")
    if spec.partition is not None and spec.reservation is not None:
        raise InvalidJobSpec("reservation", "in PBS a reservation is a queue of its own; leave `partition` out")
    if queue := spec.reservation or spec.partition:
        others.append(f"-q {quote(queue)}")
    if spec.array is not None:
        try:
            others.append(f"-J {arrays.pbs_range(spec.array)}")
        except ValueError as error:
            raise InvalidJobSpec("array", str(error)) from None
    if spec.dependency is not None:
        others.append(f"-W depend={_pbs_dependency(str(spec.dependency))}")
    for field, option in (("stdout", "-o"), ("stderr", "-e")):
        path = getattr(spec, field)
        if path is None:
            continue
        if "%" in path:
            raise InvalidJobSpec(field, f"{path!r}: PBS does not fill in patterns such as %j")
        others.append(f"{option} {quote(path)}")
    # qsub refuses it otherwise: "cannot submit non-rerunable Array Job".
    is_array = spec.array is not None or "array" in own
    if is_array and spec.requeue is False:
        raise InvalidJobSpec("requeue", "PBS takes no array whose elements may not run again; leave it out")
    if may_run_again(spec, own):
        others.append("-r y")
    else:
        others.append("-r n")
    return resources, [f"#PBS {line}" for line in others] + [with_prefix(text, "#PBS") for text in spec.directives]


def _chunk(spec: JobSpec) -> str:
    """Return the value of PBS's ``select``: one chunk for each node, all equal."""
    if all(
        getattr(spec, field) is None
        for field in ("nodes", "ntasks", "ntasks_per_node", "cpus_per_task", "gpus", "gpus_per_node", "memory")
    ):
        return ""
    if isinstance(spec.nodes, str):
        raise InvalidJobSpec("nodes", f"{spec.nodes!r}: PBS takes one number")
    nodes = spec.nodes or 1
    if spec.nodes is None and spec.ntasks and spec.ntasks_per_node:
        nodes = _share("ntasks", spec.ntasks, spec.ntasks_per_node)
    tasks = spec.ntasks_per_node or _share("ntasks", spec.ntasks or nodes, nodes)
    gpus = spec.gpus_per_node if spec.gpus_per_node is not None else spec.gpus
    if isinstance(gpus, str):
        field = "gpus" if spec.gpus_per_node is None else "gpus_per_node"
        raise InvalidJobSpec(field, f"{gpus!r}: PBS takes a number; a type is the site's own resource")
    if gpus and spec.gpus_per_node is None:
        gpus = _share("gpus", gpus, nodes)
    chunk = f"{nodes}:ncpus={tasks * (spec.cpus_per_task or 1)}:mpiprocs={tasks}"
    if gpus:
        chunk += f":ngpus={gpus}"
    if spec.memory is not None:
        if not quantities.mebibytes(spec.memory):
            raise InvalidJobSpec("memory", "0 means all of a node's memory to Slurm only; name an amount for PBS")
        chunk += f":mem={str(spec.memory).lower()}b"
    return chunk


def _share(field: str, total: int, nodes: int) -> int:
    if total % nodes:
        raise InvalidJobSpec(field, f"{total} cannot be shared evenly by {nodes}, as PBS's equal chunks need")
    return total // nodes


def _pbs_dependency(dependency: str) -> str:
    for part in dependency.split(","):
        kind = part.partition(":")[0]
        if kind not in _PBS_DEPENDENCIES or "?" in part or "+" in part:
            raise InvalidJobSpec(
                "dependency",
                f"{part!r} is Slurm's alone; PBS knows {', '.join(sorted(_PBS_DEPENDENCIES))}, all to be met",
            )
    return dependency
