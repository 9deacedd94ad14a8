"""The paths of a job's output: the file name patterns of Slurm and PBS, filled in.

Facts: "filename pattern" in Slurm's sbatch manual, and the value that slurmstepd 22.05 writes for each symbol of a
batch script; ``-o`` and ``-e`` in PBS Professional's qsub manual.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from enum import Enum

from firecrest_core.result import padded
from firecrest_core.spec.jobspec import JobSpec, Scheduler

_SYMBOL = re.compile(r"%(\d*)(.)")
# What slurmstepd alone fills in. scontrol, from which the server has its paths, leaves these symbols.
_OF_THE_STEP = re.compile(r"%\d*([JNnst])")
# Of a node list such as nid[001-004,007],login1: the part before the first comma outside of brackets, and a bracket.
_FIRST_NODES = re.compile(r"(?:[^,\[]|\[[^\[\]]*\])*")
_FIRST_OF_RANGE = re.compile(r"\[(\d+)[^\[\]]*\]")
# For a job that is no array, slurmstepd writes Slurm's NO_VAL as its index.
_NO_INDEX = "4294967294"


def output_paths(
    spec: JobSpec,
    job_id: int | str,
    *,
    index: int | None = None,
    user: str | None = None,
    scheduler: Scheduler = "slurm",
) -> tuple[str | None, str | None] | None:
    """Return the absolute paths of a job's standard output and standard error.

    :param spec: the job
    :param job_id: the job's id; for an array, the array's
    :param index: an element of the array; without it, the index stays a pattern (``%a``, in PBS ``^array_index^``)
    :param user: the user's name on the cluster, for ``%u``
    :param scheduler: whose patterns and defaults apply
    :returns: two paths, equal if both streams go to one file. The first node stays a pattern (``%N``), see
        :func:`completed_path`. A path that nothing can tell is ``None``: ``%j`` in an array is an id that each element
        gets when it starts. ``None`` for both if only the scheduler knows them: a ``script_path`` may name others, and
        ``%u`` is the user on the cluster.
    """
    if spec.script_path is not None and (spec.stdout is None or spec.stderr is None):
        return None
    own = spec.script_options(scheduler)
    patterns = _Patterns(
        job_id=str(job_id),
        name=spec.name or own.get("job-name"),
        working_dir=spec.working_dir,
        is_array=spec.array_indices is not None,
        index=index,
        user=user,
    )
    stdout, stderr = spec.stdout or own.get("output"), spec.stderr or own.get("error")
    if scheduler == "slurm":
        return patterns.slurm(stdout, stderr)
    return patterns.pbs(stdout, stderr, own.get("join"))


def completed_path(path: str | None, job_id: str, nodes: str, *, is_array: bool) -> str | None:
    """Return the path of an output with the symbols filled in that are known only when the job runs.

    :param path: the path, in which ``%N`` is the node, and perhaps others of the batch step
    :param job_id: the job's id
    :param nodes: the scheduler's node list, for example ``nid[001-004]``; the batch script runs on the first
    :param is_array: id and nodes are those of the whole array, so those of an element are unknown, except for a single
        node
    :returns: ``None`` if a symbol cannot be known
    """
    if path is None:
        return None
    first = _FIRST_NODES.match(nodes)
    node = _FIRST_OF_RANGE.sub(r"\1", first[0] if first else "").partition(".")[0]
    is_one = re.fullmatch(r"[\w.-]+", nodes) is not None
    values = {
        "N": node if is_one or not is_array else "",
        "J": "" if is_array else job_id,
        "n": "0",
        "t": "0",
        "s": "batch",
    }
    known = all(values[symbol] for symbol in _OF_THE_STEP.findall(path))
    return _OF_THE_STEP.sub(lambda match: values[match[1]], path) if known else None


class _Unknown(Enum):
    """Why a pattern cannot be filled in."""

    ASK = "only the scheduler knows it"
    NEVER = "nothing tells it"


@dataclass(frozen=True, kw_only=True)
class _Patterns:
    """The values that the patterns are filled with.

    :param job_id: the job's id; for an array, the array's
    :param name: the job's name, ``None`` for the scheduler's default
    :param index: the element of an array, ``None`` to keep the index a pattern
    :param user: the user's name on the cluster, if known
    """

    job_id: str
    name: str | None
    working_dir: str
    is_array: bool
    index: int | None = None
    user: str | None = None

    def slurm(self, stdout: str | None, stderr: str | None) -> tuple[str | None, str | None] | None:
        """Return the two paths for Slurm's patterns; ``None`` if the scheduler has to be asked."""
        stdout = stdout or ("slurm-%A_%a.out" if self.is_array else "slurm-%j.out")
        paths = [self._filled(stdout), self._filled(stderr or stdout)]
        if _Unknown.ASK in paths:
            return None
        first, second = (None if isinstance(path, _Unknown) else path for path in paths)
        return first, second

    def pbs(self, stdout: str | None, stderr: str | None, join: str | None) -> tuple[str, str]:
        """Return the two paths for PBS's ``-o``, ``-e`` and ``-j``.

        A path that ends with ``/`` is a directory, and the default names are used in it. A host before the path is
        left out.
        """
        number = re.sub(r"\D.*", "", self.job_id)
        tail = ".^array_index^" if self.is_array else ""
        paths = []
        for path, letter in ((stdout, "o"), (stderr, "e")):
            default = f"{self.name or 'STDIN'}.{letter}{number}{tail}"
            path = path.rpartition(":")[2] if path else default
            path = path + default if path.endswith("/") else path
            if self.index is not None:
                path = path.replace("^array_index^", str(self.index))
            paths.append(posixpath.join(self.working_dir, path))
        if join == "oe":
            paths[1] = paths[0]
        elif join == "eo":
            paths[0] = paths[1]
        return paths[0], paths[1]

    def _filled(self, pattern: str) -> str | _Unknown:
        if "\\" in pattern:
            # A backslash anywhere turns all symbols off and is itself dropped.
            return posixpath.join(self.working_dir, pattern.replace("\\", ""))
        unknown: set[_Unknown] = set()

        def fill(match: re.Match[str]) -> str:
            width, symbol = match.groups()
            value = self._symbol(symbol)
            if isinstance(value, _Unknown):
                unknown.add(value)
                return ""
            if value is None:  # not a symbol, or the node
                return match.group()
            if symbol == "a" and self.is_array and self.index is None:
                return match.group()
            return padded(value, width) if value.isdecimal() else value

        path = _SYMBOL.sub(fill, pattern)
        if unknown:
            return _Unknown.NEVER if _Unknown.NEVER in unknown else _Unknown.ASK
        return posixpath.join(self.working_dir, path)

    def _symbol(self, symbol: str) -> str | _Unknown | None:
        match symbol:
            case "%":
                return "%"
            case "A":
                return self.job_id
            case "a" if self.is_array:
                return str(self.index)
            case "a":
                return _NO_INDEX
            case "j" | "J":
                # Each element of an array has an id of its own, given when it starts.
                return _Unknown.NEVER if self.is_array else self.job_id
            case "b":  # the index modulo 10, since Slurm 23.11
                return _Unknown.NEVER
            case "n" | "t":
                return "0"
            case "s":
                return "batch"
            case "u":
                return self.user or _Unknown.ASK
            case "x":
                return self.name or "sbatch"
            case _:
                return None
