"""The options of sbatch and qsub: which field each of them belongs to, and which of them a script's own lines set.

sbatch and qsub read options from the comments before a script's first command. In sbatch the later line wins, across
``#SBATCH`` and ``#PBS`` lines, both of which it reads. qsub does the same, except for ``-l``: there the first one wins.

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

# Each option that we read from scripts, with its short form and the shortest abbreviation of its long form that
# getopt_long takes for no other option of sbatch.
_SBATCH = {
    "array": ("a", "ar"),
    "error": ("e", "er"),
    "job-name": ("J", "jo"),
    "no-requeue": ("", "no-r"),
    "output": ("o", "ou"),
    "requeue": ("", "req"),
}
_FLAGS = frozenset({"requeue", "no-requeue"})
_QSUB = {"J": "array", "N": "job-name", "e": "error", "j": "join", "o": "output", "r": "rerunable"}


@lru_cache(maxsize=128)  # one submission asks for them several times, and a script may be long
def script_options(script: str, scheduler: str = "slurm") -> Mapping[str, str]:
    """What the script's own ``#SBATCH`` and ``#PBS`` lines say, by sbatch's long names; the last one wins.

    Only ``array``, ``error``, ``job-name``, ``output``, ``requeue``, ``no-requeue``, and PBS's ``join`` and
    ``rerunable`` are read. Of a heterogeneous job, the first component counts: the script runs there.
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
    """Whether one of the script's own ``#SBATCH`` and ``#PBS`` lines holds ``word``."""
    return any(word in line for line in directive_lines(script))


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


def with_prefix(directive: str, prefix: str) -> str:
    """Return a raw directive with the scheduler's prefix, ``#SBATCH`` or ``#PBS``.

    :raises InvalidJobSpec: it carries the prefix of the other scheduler
    """
    other = "#PBS" if prefix == "#SBATCH" else "#SBATCH"
    if directive.startswith(other):
        raise InvalidJobSpec("directives", f"{directive!r} is for another scheduler")
    return directive if directive.startswith(prefix) else f"{prefix} {directive}"


def quote(value: str) -> str:
    """A value as sbatch and qsub read it back from a comment; quotes within were refused before."""
    return value if _PLAIN.fullmatch(value) else f"'{value}'"


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # an open quote: sbatch will say so better than a guess here
        return text.split()


def _read_options(text: str, found: dict[str, str], option: Callable[[str], tuple[str, str | None]]) -> None:
    words = _words(text)
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
    """The option that a word names, with the value that hangs on it (``--array=0-3``, ``-a0-3``)."""
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
