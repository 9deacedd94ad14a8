"""A batch script as text: its head with the scheduler's directives, and how lines are put into it.

Within a script, sbatch lets the later line win, across ``#SBATCH`` and ``#PBS`` lines, both of which it reads. The
login node's ``SBATCH_*`` variables win over the script, and the command line wins over those. So the directives of a
:class:`~firecrest_core.spec.jobspec.JobSpec` go *behind* the script's own lines, and what FirecREST passes on the
command line goes there too. qsub does the same, except for ``-l``: there the first one wins.

Facts: the sbatch manual and trials with sbatch 22.05; PBS Professional's qsub and ``set_resource.c``.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache

# The shells that understand ``export NAME='value'`` and single quotes as POSIX has them.
_POSIX_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"})


def directive_lines(script: str) -> list[str]:
    """Return the script's own ``#SBATCH`` and ``#PBS`` lines."""
    return [line for line in _head(script) if is_directive(line)]


def starts_component(line: str) -> bool:
    """Tell whether a directive begins another component of a heterogeneous job."""
    return line.startswith("#SBATCH") and line.split()[1:2] in (["hetjob"], ["packjob"])


def with_directives(script: str, first: Sequence[str], last: Sequence[str]) -> tuple[list[str], list[str]]:
    """The lines of a script with directives in it: (up to the last directive, all that follows).

    :param first: lines for directly behind the ``#!`` line
    :param last: lines for behind the script's own directives. In a heterogeneous job that is before its
        ``#SBATCH hetjob`` line: they are meant for the first component, where the script runs.
    """
    lines = _lines(script)
    directives = [number for number, line in enumerate(_head(script), start=1) if is_directive(line)]
    end = directives[-1] + 1 if directives else 1
    component = next((number for number in directives if starts_component(lines[number])), end)
    return [lines[0], *first, *lines[1:component], *last, *lines[component:end]], lines[end:]


def is_shell(script: str) -> bool:
    """Whether a POSIX shell reads the script, so that lines of shell can be put into it."""
    words = script.split("\n", 1)[0].removeprefix("#!").split()
    if words and posixpath.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return bool(words) and posixpath.basename(words[0]) in _POSIX_SHELLS


def wrapped(script: str) -> list[str]:
    """Lines of bash that run a script of another language by its own interpreter.

    The copy lives in a private directory for as long as the job runs (not in ``/tmp`` itself, where Python
    would look for modules that anybody may have put there), signals sent to the batch shell reach the
    program, and its exit code is the job's.
    """
    interpreter, _, argument = script.split("\n", 1)[0].removeprefix("#!").strip().partition(" ")
    # The kernel hands all that follows the interpreter to it as one argument.
    command = shlex.join([interpreter, *([argument.strip()] if argument.strip() else [])])
    end = "END_OF_SCRIPT"
    while end in _lines(script):
        end += "_"
    return [
        "job_script=$(mktemp -d) || exit 1",
        "trap 'rm -rf -- \"$job_script\"' EXIT",
        f"cat > \"$job_script/script\" <<'{end}' || exit 1",
        *_lines(script),
        end,
        "set -m  # a child with a process group of its own, that does not ignore SIGINT",
        f'{command} "$job_script/script" <&0 &',
        'for name in HUP INT QUIT TERM USR1 USR2; do trap "kill -s $name -- -$!" $name; done',
        "until wait $!; ! kill -0 $! 2> /dev/null; do :; done  # a signal interrupts wait",
        "wait $!",
        "exit $?",
    ]


def exports(environment: Mapping[str, str]) -> list[str]:
    """``export NAME='value'`` for each variable, in any POSIX shell."""
    return [f"export {name}={_quote(value)}" for name, value in environment.items()]


def _quote(value: str) -> str:
    # sbatch refuses a script with a carriage return before a line's end, and not every shell knows $'\r'.
    return shlex.quote(value).replace("\r", "'\"$(printf '\\r')\"'")


@lru_cache(maxsize=128)  # one submission reads it several times, and a script may be long
def _head(script: str) -> tuple[str, ...]:
    """Return the lines behind ``#!`` in which a scheduler looks for options: comments and empty lines."""
    head = []
    for line in _lines(script)[1:]:
        if line.strip() and not line.lstrip().startswith("#"):
            break
        head.append(line)
    return tuple(head)


def _lines(script: str) -> list[str]:
    # Not str.splitlines: it breaks at form feeds and Unicode separators too, which no scheduler does.
    return script.removesuffix("\n").split("\n")


def is_directive(line: str) -> bool:
    """Tell whether a scheduler reads options from a line."""
    return line.startswith(("#SBATCH", "#PBS"))
