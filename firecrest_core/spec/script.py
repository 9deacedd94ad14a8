"""The text of a batch script: its head with the scheduler's directives, and how lines are inserted.

sbatch reads ``#SBATCH`` and ``#PBS`` lines, and the later line wins. The login node's ``SBATCH_*`` variables win over
the script, and the command line wins over those. So the directives of a
:class:`~firecrest_core.spec.jobspec.JobSpec` go *behind* the script's own lines, and what FirecREST passes on the
command line goes there too. In qsub the later line wins too, except for ``-l``, where the first one wins.

Facts: the sbatch manual and trials with sbatch 22.05; PBS Professional's qsub and ``set_resource.c``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from firecrest_core.spec import shell


def directive_lines(script: str) -> list[str]:
    """Return the script's own ``#SBATCH`` and ``#PBS`` lines."""
    return [line for line in _head(script) if is_directive(line)]


def starts_component(line: str) -> bool:
    """Tell whether a directive begins another component of a heterogeneous job."""
    return line.startswith("#SBATCH") and line.split()[1:2] in (["hetjob"], ["packjob"])


def with_directives(script: str, first: Sequence[str], last: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the lines of a script with more directives.

    :param script: the text of a batch script
    :param first: lines to insert directly behind the ``#!`` line
    :param last: lines to insert behind the script's own directives. In a heterogeneous job they go before the
        ``#SBATCH hetjob`` line, because they are meant for the first component, where the script runs.
    :returns: (the lines up to the last directive, all that follow)
    """
    all_lines = lines(script)
    directives = [number for number, line in enumerate(_head(script), start=1) if is_directive(line)]
    end = directives[-1] + 1 if directives else 1
    component = next((number for number in directives if starts_component(all_lines[number])), end)
    return [all_lines[0], *first, *all_lines[1:component], *last, *all_lines[component:end]], all_lines[end:]


def interpreter(script: str) -> str:
    """Return what runs a script: its first line behind ``#!``."""
    return script.split("\n", 1)[0].removeprefix("#!").strip()


def login_line(script: str) -> str:
    """Return the first line of a script that its shell, as a login shell, is to run.

    :param script: the text of a batch script. One that is not for a POSIX shell is run by a script of bash.
    :raises ValueError: the first line has an option that no other can be added to
    """
    line, words = script.split("\n", 1)[0], interpreter(script).split()
    if not shell.posix_shell(interpreter(script)):
        return "#!/bin/bash -l"
    if len(words) == 1:
        return f"#!{words[0]} -l"
    # The kernel passes everything behind the interpreter as one argument.
    if words[0].endswith("/env") and len(words) == 2:
        return f"#!/usr/bin/env -S {words[1]} -l"
    if words[1:] == ["--login"] or (len(words) == 2 and re.fullmatch(r"-[a-zA-Z]+", words[1])):
        return line if "l" in words[1] else f"#!{words[0]} {words[1]}l"
    raise ValueError(f"cannot be added to the script's first line, {line!r}; write it there")


def load_modules(modules: Sequence[str]) -> list[str]:
    """Return lines of shell that load environment modules, and end the job if one cannot be loaded."""
    if not modules:
        return []
    problem = f"firecrest: module load {shell.join(modules)} has failed, so nothing runs."
    hint = "Where a shell has no command module, a login shell may have it (login_shell)."
    return [
        f"module load {shell.join(modules)} || {{ printf '%s\\n' {shell.quote(f'{problem} {hint}')} >&2; exit 1; }}"
    ]


def wrapped(script: str, exports: Sequence[str], at_end: str = "") -> list[str]:
    """Return lines of bash that run a script in another language with its own interpreter.

    They write a copy of the script to a private directory, which exists while the job runs. It is not ``/tmp`` itself,
    because Python would import modules from there that anybody may have written. Signals to the batch shell reach the
    program, and its exit code is the job's. The environment is the program's alone, so that it changes nothing here.

    :param script: the text of the script, with its ``#!`` line
    :param exports: lines of shell that export variables for it, or prepare something else
    :param at_end: a command to run when it has ended
    """
    program, _, argument = interpreter(script).partition(" ")
    # The kernel passes everything behind the interpreter as one argument.
    command = shell.join([program, *([argument.strip()] if argument.strip() else [])])
    cleaning = 'rm -rf -- "$job_script"' + (f"; {at_end}" if at_end else "")
    end = "END_OF_SCRIPT"
    while end in lines(script):
        end += "_"
    return [
        "job_script=$(mktemp -d) || exit 1",
        f"trap {shell.quote(cleaning)} EXIT",
        f"cat > \"$job_script/script\" <<'{end}' || exit 1",
        *lines(script),
        end,
        "set -m  # a child with a process group of its own, that does not ignore SIGINT",
        "(",
        'set -- "$job_script/script"',
        *exports,
        f'exec {command} "$1"',
        ") <&0 &",
        'for name in HUP INT QUIT TERM USR1 USR2; do trap "kill -s $name -- -$!" $name; done',
        "until wait $!; ! kill -0 $! 2> /dev/null; do :; done  # a signal interrupts wait",
        "wait $!",
        "exit $?",
    ]


def exports(environment: Mapping[str, str]) -> list[str]:
    """Return a line ``export NAME='value'`` for each variable, for any POSIX shell."""
    # In mksh, the printf of a quoted value is a program, which is found only before PATH is changed.
    ordered = sorted(environment.items(), key=lambda variable: variable[0] == "PATH")
    return [f"export {name}={shell.quote(value)}" for name, value in ordered]


@lru_cache(maxsize=128)  # one submission reads it several times, and a script may be long
def _head(script: str) -> tuple[str, ...]:
    """Return the lines behind ``#!`` in which a scheduler reads options: comments and empty lines."""
    head = []
    for line in lines(script)[1:]:
        if line.strip() and not line.lstrip().startswith("#"):
            break
        head.append(line)
    return tuple(head)


def lines(script: str) -> list[str]:
    """Return the lines of a script, as a scheduler counts them."""
    # str.splitlines would also break at form feeds and Unicode separators, which no scheduler does.
    return script.removesuffix("\n").split("\n")


def is_directive(line: str) -> bool:
    """Tell whether a scheduler reads options from a line."""
    return line.startswith(("#SBATCH", "#PBS"))
