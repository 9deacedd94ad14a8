"""A batch script as text: what it asks of the scheduler by itself, and how something is put into it.

sbatch and qsub read their options from the comments before the first command. Within a script, sbatch lets
the later line win ("later wins" holds across ``#SBATCH`` and ``#PBS`` lines, which it reads both); above the
script stand the login node's ``SBATCH_*`` variables, and above those the command line. So what a
:class:`~firecrest_core.jobspec.JobSpec` says goes *behind* the script's own lines, and what FirecREST passes on
the command line goes there too. qsub does the same, except for ``-l``: there the first one wins.

Facts: the sbatch manual and trials with sbatch 22.05; PBS Professional's qsub and ``set_resource.c``.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable, Mapping, Sequence

# The shells that understand ``export NAME='value'`` and single quotes as POSIX has them.
_POSIX_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"})

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


def own_options(script: str, scheduler: str = "slurm") -> dict[str, str]:
    """What the script's own ``#SBATCH`` and ``#PBS`` lines say, by sbatch's long names; the last one wins.

    Only ``array``, ``error``, ``job-name``, ``output``, ``requeue``, ``no-requeue``, and PBS's ``join`` and
    ``rerunable`` are read. Of a heterogeneous job, the first component counts: the script runs there.
    """
    found: dict[str, str] = {}
    for line in _head(script):
        if _starts_component(line):
            break
        if line.startswith("#SBATCH") and scheduler == "slurm":
            _read_options(line.removeprefix("#SBATCH"), found, _sbatch_option)
        elif line.startswith("#PBS"):
            _read_options(line.removeprefix("#PBS"), found, _qsub_option)
    return found


def asks_for(script: str, word: str) -> bool:
    """Whether one of the script's own ``#SBATCH`` and ``#PBS`` lines holds ``word``."""
    return any(line.startswith(("#SBATCH", "#PBS")) and word in line for line in _head(script))


def with_directives(script: str, first: Sequence[str], last: Sequence[str]) -> tuple[list[str], list[str]]:
    """The lines of a script with directives in it: (up to the last directive, all that follows).

    :param first: lines for directly behind the ``#!`` line
    :param last: lines for behind the script's own directives. In a heterogeneous job that is before its
        ``#SBATCH hetjob`` line: they are meant for the first component, where the script runs.
    """
    lines = _lines(script)
    directives = [number for number, line in enumerate(_head(script), start=1) if line.startswith(("#SBATCH", "#PBS"))]
    end = directives[-1] + 1 if directives else 1
    component = next((number for number in directives if _starts_component(lines[number])), end)
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


def _lines(script: str) -> list[str]:
    # Not str.splitlines: it breaks at form feeds and Unicode separators too, which no scheduler does.
    return script.removesuffix("\n").split("\n")


def _head(script: str) -> list[str]:
    """The lines behind ``#!`` in which a scheduler looks for options: comments and empty lines."""
    head = []
    for line in _lines(script)[1:]:
        if line.strip() and not line.lstrip().startswith("#"):
            break
        head.append(line)
    return head


def _starts_component(line: str) -> bool:
    return line.startswith("#SBATCH") and line.split()[1:2] in (["hetjob"], ["packjob"])


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
