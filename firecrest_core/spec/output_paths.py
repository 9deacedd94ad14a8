"""The paths of a job's output: the file name patterns of Slurm and PBS, filled in.

Facts: "filename pattern" in Slurm's sbatch manual, and the value that slurmstepd 22.05 writes for each symbol of a
batch script; ``-o`` and ``-e`` in PBS Professional's qsub manual.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from firecrest_core.spec.jobspec import JobSpec, Scheduler

_SYMBOL = re.compile(r"%(\d*)(.)")
# For a job that is no array, slurmstepd writes Slurm's NO_VAL as its index.
_NO_INDEX = "4294967294"


def output_paths(
    spec: JobSpec,
    job_id: int | str,
    *,
    index: int | None = None,
    user: str | None = None,
    scheduler: Scheduler = "slurm",
) -> tuple[str, str] | None:
    """Return the absolute paths of a job's standard output and standard error.

    :param spec: the job
    :param job_id: the job's id; for an array, the array's
    :param index: an element of the array; without it, the index stays a pattern (``%a``, in PBS ``^array_index^``)
    :param user: the user's name on the cluster, for ``%u``
    :param scheduler: whose patterns and defaults apply
    :returns: two paths, equal if both streams go to one file, or ``None`` if they cannot be known: a ``script_path``
        may name others, a pattern may contain the node, and ``%j`` in an array is an id that each element gets when it
        starts
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

    def slurm(self, stdout: str | None, stderr: str | None) -> tuple[str, str] | None:
        """Return the two paths for Slurm's patterns; ``None`` if one of them cannot be known."""
        stdout = stdout or ("slurm-%A_%a.out" if self.is_array else "slurm-%j.out")
        paths = self._filled(stdout), self._filled(stderr or stdout)
        return None if paths[0] is None or paths[1] is None else (paths[0], paths[1])

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

    def _filled(self, pattern: str) -> str | None:
        if "\\" in pattern:
            # A backslash anywhere turns all symbols off and is itself dropped.
            return posixpath.join(self.working_dir, pattern.replace("\\", ""))
        unknown = False

        def fill(match: re.Match[str]) -> str:
            nonlocal unknown
            width, symbol = match.groups()
            value = self._symbol(symbol)
            if value is None:
                unknown = True
                return ""
            if symbol == "a" and self.is_array and self.index is None:
                return match.group()
            return value.zfill(int(width)) if width and value.isdecimal() else value

        path = _SYMBOL.sub(fill, pattern)
        return None if unknown else posixpath.join(self.working_dir, path)

    def _symbol(self, symbol: str) -> str | None:
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
                return None if self.is_array else self.job_id
            case "n" | "t":
                return "0"
            case "s":
                return "batch"
            case "u":
                return self.user
            case "x":
                return self.name or "sbatch"
            case _:
                return None
