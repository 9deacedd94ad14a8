"""The options of sbatch and qsub: the field of each, and those that a script's own lines set.

sbatch and qsub read options from the comments before a script's first command. sbatch reads ``#SBATCH`` and ``#PBS``
lines, and the later line wins. In qsub the later line wins too, except for ``-l``, where the first one wins.

Facts: Slurm's sbatch manual, tried with sbatch 22.05; PBS Professional's qsub manual.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec.script import directive_lines, starts_component

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

_PLAIN = re.compile(r"[\w@%+=:,./^?\[\]-]+", re.ASCII)

# The options that are read from scripts. Each has its short form and the shortest abbreviation of its long form that
# getopt_long does not take for another option of sbatch.
_SBATCH = {
    "account": ("A", "acco"),
    "array": ("a", "ar"),
    "constraint": ("C", "cons"),
    "cpus-per-task": ("c", "cpus-per-t"),
    "error": ("e", "er"),
    "exclude": ("x", "exclud"),
    "job-name": ("J", "jo"),
    "mem": ("", "mem"),
    "no-requeue": ("", "no-r"),
    "nodes": ("N", "nodes"),
    "ntasks": ("n", "ntasks"),
    "ntasks-per-node": ("", "ntasks-per-n"),
    "output": ("o", "ou"),
    "partition": ("p", "part"),
    "requeue": ("", "req"),
    "time": ("t", "time"),
}
_FLAGS = frozenset({"requeue", "no-requeue"})
_QSUB = {"J": "array", "N": "job-name", "e": "error", "j": "join", "o": "output", "r": "rerunable"}


@lru_cache(maxsize=128)  # one submission needs them several times, and a script may be long
def script_options(script: str, scheduler: str = "slurm") -> Mapping[str, str]:
    """Return the options that a script's own ``#SBATCH`` and ``#PBS`` lines set. The last one wins.

    Only those of sbatch are read that something here asks for, and PBS's ``join`` and ``rerunable``. In a heterogeneous
    job only the first component counts, because the script runs there.

    :param script: the text of a batch script
    :param scheduler: ``slurm`` or ``pbs``
    :returns: values by sbatch's long names; an empty text for a flag
    """
    found: dict[str, str] = {}
    for line in directive_lines(script):
        if starts_component(line):
            break
        if line.startswith("#SBATCH") and scheduler == "slurm":
            _read_options(line.removeprefix("#SBATCH"), found, _sbatch_option)
        elif line.startswith("#PBS"):
            _read_options(line.removeprefix("#PBS"), found, _qsub_option)
    return MappingProxyType(found)


def asks_for(script: str, word: str) -> bool:
    """Tell whether one of the script's own ``#SBATCH`` and ``#PBS`` lines contains ``word``."""
    return any(word in line for line in directive_lines(script))


def field_of(directive: str) -> str | None:
    """Return the field of :class:`~firecrest_core.spec.jobspec.JobSpec` for a raw directive, ``None`` if there is none.

    :param directive: an option of sbatch or qsub, with or without the prefix ``#SBATCH`` or ``#PBS``
    """
    is_pbs = directive.startswith("#PBS")
    option = directive.removeprefix("#SBATCH").removeprefix("#PBS").strip()
    if option.startswith("--"):
        name = re.split(r"[=\s]", option[2:], maxsplit=1)[0]
        if name in ("requeue", "no-requeue"):
            return "requeue"
        return next((field for field, long in SLURM_OPTIONS.items() if long == name), None)
    # The same letter means different things to the two schedulers, so the prefix decides. `-l` and `-W` belong to no
    # field.
    return (_PBS_FIELDS if is_pbs else _SHORT).get(option[:2])


def with_prefix(directive: str, prefix: str) -> str:
    """Return a raw directive with the scheduler's prefix.

    :param directive: an option, with or without a prefix
    :param prefix: ``#SBATCH`` or ``#PBS``
    :raises InvalidJobSpec: the directive has the other scheduler's prefix
    """
    other = "#PBS" if prefix == "#SBATCH" else "#SBATCH"
    if directive.startswith(other):
        raise InvalidJobSpec("directives", f"{directive!r} is for another scheduler")
    return directive if directive.startswith(prefix) else f"{prefix} {directive}"


def quote(value: str) -> str:
    """Quote a value for a directive, where sbatch and qsub need it. Values with quotes were refused before."""
    return value if _PLAIN.fullmatch(value) else f"'{value}'"


def split_words(text: str) -> list[str]:
    """Return the words of a directive behind its prefix, as sbatch reads quotes and comments."""
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # an open quote: sbatch will report it
        return text.split()


def _read_options(text: str, found: dict[str, str], option: Callable[[str], tuple[str, str | None]]) -> None:
    words = split_words(text)
    while words:
        name, value = option(words.pop(0))
        if not name:
            continue
        if name in _FLAGS:
            found.pop("no-requeue" if name == "requeue" else "requeue", None)
            found[name] = ""
        elif value is not None:
            found[name] = value
        elif words:
            found[name] = words.pop(0)


def _sbatch_option(word: str) -> tuple[str, str | None]:
    """Return the option that a word names, and the value in the same word (``--array=0-3``, ``-a0-3``), if any."""
    if word.startswith("--"):
        text, equals, value = word[2:].partition("=")
        for name, (_, shortest) in _SBATCH.items():
            if name.startswith(text) and text.startswith(shortest):
                return name, value if equals else None
    elif word.startswith("-"):
        for name, (letter, _) in _SBATCH.items():
            if letter and word[1:2] == letter:
                return name, word[2:] or None
    return "", None


def _qsub_option(word: str) -> tuple[str, str | None]:
    if word.startswith("-"):
        return _QSUB.get(word[1:2], ""), word[2:] or None
    return "", None
