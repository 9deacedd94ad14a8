"""The fields of a job specification as ``#SBATCH`` and ``#PBS`` lines.

Facts: Slurm's sbatch manual, tried with sbatch 22.05; PBS Professional's qsub manual; for ``uenv`` and
``container`` the documentation of CSCS's Slurm plugins (``--uenv``, ``--view``, ``--environment``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from firecrest_core import arrays, quantities
from firecrest_core.errors import InvalidJobSpec

if TYPE_CHECKING:
    from firecrest_core.jobspec import JobSpec

# Field → sbatch's option, in the order in which they are written.
SLURM_OPTIONS = {
    "name": "job-name",
    "account": "account",
    "partition": "partition",
    "qos": "qos",
    "reservation": "reservation",
    "constraint": "constraint",
    "nodes": "nodes",
    "ntasks": "ntasks",
    "ntasks_per_node": "ntasks-per-node",
    "cpus_per_task": "cpus-per-task",
    "gpus": "gpus",
    "gpus_per_node": "gpus-per-node",
    "memory": "mem",
    "time_limit": "time",
    "array": "array",
    "dependency": "dependency",
    "signal": "signal",
    "working_dir": "chdir",
    "stdout": "output",
    "stderr": "error",
    "uenv": "uenv",
    "container": "environment",
}
_SHORT = {
    "-J": "name", "-A": "account", "-p": "partition", "-q": "qos", "-C": "constraint", "-N": "nodes",
    "-n": "ntasks", "-c": "cpus_per_task", "-G": "gpus", "-t": "time_limit", "-a": "array", "-d": "dependency",
    "-D": "working_dir", "-o": "stdout", "-e": "stderr",
}  # fmt: skip
_PBS_FIELDS = {
    "-N": "name", "-A": "account", "-P": "account", "-q": "partition", "-J": "array", "-o": "stdout",
    "-e": "stderr", "-r": "requeue",
}  # fmt: skip
_PBS_CANNOT = ("qos", "constraint", "signal", "uenv", "container")
_PBS_DEPENDENCIES = frozenset({"after", "afterany", "afternotok", "afterok"})
_PLAIN = re.compile(r"[\w@%+=:,./^?\[\]-]+", re.ASCII)


def slurm(spec: JobSpec, own: dict[str, str]) -> list[str]:
    """The ``#SBATCH`` lines of a specification.

    :param own: what the script's own lines say: a ``--requeue`` there is the user's wish, too
    """
    lines = []
    for field, option in SLURM_OPTIONS.items():
        value = getattr(spec, field)
        if value is None:
            continue
        if field == "uenv":
            image, _, views = value.partition(" --view=")
            lines.append(f"#SBATCH --uenv={_quote(image)}" + (f" --view={_quote(views)}" if views else ""))
        else:
            lines.append(f"#SBATCH --{option}={_quote(str(value))}")
    if spec.requeue or (spec.requeue is None and "requeue" in own):
        lines.append("#SBATCH --requeue")
    else:
        # Most sites requeue by default; a payload that runs a second time must be the user's wish.
        lines.append("#SBATCH --no-requeue")
    lines += [_raw(directive, "#SBATCH") for directive in spec.directives]
    return lines


def pbs(spec: JobSpec, own: dict[str, str]) -> tuple[list[str], list[str]]:
    """The ``#PBS`` lines of a specification: (resources, the others).

    They are apart because qsub keeps the first of a resource named twice, and of other options the last.

    :raises InvalidJobSpec: for what PBS cannot express, with the field's name
    """
    for field in _PBS_CANNOT:
        if getattr(spec, field) is not None:
            raise InvalidJobSpec(
                field, "PBS has nothing like it; leave it out, or say it in PBS's own words in `directives`"
            )
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
        others.append(f"-A {_quote(spec.account)}")
    if spec.partition is not None and spec.reservation is not None:
        raise InvalidJobSpec("reservation", "in PBS a reservation is a queue of its own; leave `partition` out")
    if queue := spec.reservation or spec.partition:
        others.append(f"-q {_quote(queue)}")
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
        others.append(f"{option} {_quote(path)}")
    # qsub: cannot submit non-rerunable Array Job
    is_array = spec.array is not None or "array" in own
    if is_array and spec.requeue is False:
        raise InvalidJobSpec("requeue", "PBS takes no array whose elements may not run again; leave it out")
    if is_array or spec.requeue or (spec.requeue is None and own.get("rerunable") == "y"):
        others.append("-r y")
    else:
        others.append("-r n")
    return resources, [f"#PBS {line}" for line in others] + [_raw(text, "#PBS") for text in spec.directives]


def field_of(directive: str) -> str | None:
    """The field that says what a raw directive says, if there is one."""
    is_pbs = directive.startswith("#PBS")
    option = directive.removeprefix("#SBATCH").removeprefix("#PBS").strip()
    if option.startswith("--"):
        name = re.split(r"[=\s]", option[2:], maxsplit=1)[0]
        if name in ("requeue", "no-requeue"):
            return "requeue"
        return next((field for field, long in SLURM_OPTIONS.items() if long == name), None)
    # The same letter means different things to the two schedulers; where only one of them knows it as a field's
    # (`-l` and `-W` are nobody's), the prefix decides.
    return (_PBS_FIELDS if is_pbs else _SHORT).get(option[:2])


def _chunk(spec: JobSpec) -> str:
    """PBS's ``select``: as many equal chunks as nodes, each with its share."""
    if all(
        getattr(spec, field) is None
        for field in ("nodes", "ntasks", "ntasks_per_node", "cpus_per_task", "gpus", "gpus_per_node", "memory")
    ):
        return ""
    if isinstance(spec.nodes, str):
        raise InvalidJobSpec("nodes", f"{spec.nodes!r}: PBS takes one number, no range")
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


def _raw(directive: str, prefix: str) -> str:
    other = "#PBS" if prefix == "#SBATCH" else "#SBATCH"
    if directive.startswith(other):
        raise InvalidJobSpec("directives", f"{directive!r} is for another scheduler")
    return directive if directive.startswith(prefix) else f"{prefix} {directive}"


def _quote(value: str) -> str:
    """A value as sbatch and qsub read it back from a comment; quotes within were refused before."""
    return value if _PLAIN.fullmatch(value) else f"'{value}'"
