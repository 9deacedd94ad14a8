"""`#SBATCH` lines, read as sbatch reads them."""

from __future__ import annotations

import shlex

from firecrest_local.errors import SchedulerError

#: Options that take a value, by their long names. True means that the value is optional.
VALUED: dict[str, bool] = {
    "account": False,
    "acctg-freq": False,
    "array": False,
    "batch": False,
    "bb": False,
    "bbf": False,
    "begin": False,
    "chdir": False,
    "cluster-constraint": False,
    "clusters": False,
    "comment": False,
    "constraint": False,
    "container": False,
    "core-spec": False,
    "cores-per-socket": False,
    "cpu-freq": False,
    "cpus-per-gpu": False,
    "cpus-per-task": False,
    "deadline": False,
    "delay-boot": False,
    "dependency": False,
    "distribution": False,
    "environment": False,
    "error": False,
    "exclude": False,
    "exclusive": True,
    "export": False,
    "export-file": False,
    "extra-node-info": False,
    "get-user-env": True,
    "gid": False,
    "gpu-bind": False,
    "gpu-freq": False,
    "gpus": False,
    "gpus-per-node": False,
    "gpus-per-socket": False,
    "gpus-per-task": False,
    "gres": False,
    "gres-flags": False,
    "hint": False,
    "input": False,
    "job-name": False,
    "kill-on-invalid-dep": False,
    "licenses": False,
    "mail-type": False,
    "mail-user": False,
    "mcs-label": False,
    "mem": False,
    "mem-bind": False,
    "mem-per-cpu": False,
    "mem-per-gpu": False,
    "mincpus": False,
    "network": False,
    "nice": True,
    "no-kill": True,
    "nodefile": False,
    "nodelist": False,
    "nodes": False,
    "ntasks": False,
    "ntasks-per-core": False,
    "ntasks-per-gpu": False,
    "ntasks-per-node": False,
    "ntasks-per-socket": False,
    "open-mode": False,
    "output": False,
    "partition": False,
    "power": False,
    "prefer": False,
    "priority": False,
    "profile": False,
    "propagate": True,
    "qos": False,
    "reservation": False,
    "signal": False,
    "sockets-per-node": False,
    "switches": False,
    "thread-spec": False,
    "threads-per-core": False,
    "time": False,
    "time-min": False,
    "tmp": False,
    "uenv": False,
    "uid": False,
    "view": False,
    "wait-all-nodes": False,
    "wckey": False,
    "wrap": False,
}
FLAGS = frozenset(
    {
        "contiguous",
        "hold",
        "ignore-pbs",
        "no-requeue",
        "overcommit",
        "oversubscribe",
        "parsable",
        "quiet",
        "reboot",
        "requeue",
        "spread-job",
        "test-only",
        "use-min-nodes",
        "verbose",
        "wait",
    }
)
SHORT = {
    "A": "account",
    "a": "array",
    "b": "begin",
    "B": "extra-node-info",
    "C": "constraint",
    "c": "cpus-per-task",
    "D": "chdir",
    "d": "dependency",
    "e": "error",
    "F": "nodefile",
    "G": "gpus",
    "H": "hold",
    "i": "input",
    "J": "job-name",
    "k": "no-kill",
    "L": "licenses",
    "M": "clusters",
    "m": "distribution",
    "N": "nodes",
    "n": "ntasks",
    "O": "overcommit",
    "o": "output",
    "p": "partition",
    "Q": "quiet",
    "q": "qos",
    "s": "oversubscribe",
    "S": "core-spec",
    "t": "time",
    "v": "verbose",
    "W": "wait",
    "w": "nodelist",
    "x": "exclude",
}


def directive_lines(script: str) -> list[str]:
    """Return the text after `#SBATCH` in the lines before the first command."""
    lines = []
    for line in script.splitlines():
        if line.startswith("#SBATCH") and line[7:8].isspace():
            lines.append(line[8:])
        elif line.strip() and not line.startswith("#"):
            break
    return lines


def parse_directives(script: str) -> dict[str, str]:
    """Read the options of a script.

    :returns: the values by long option name. Flags have an empty value. The last of a repeated option wins.
    :raises SchedulerError: sbatch doesn't know an option, or an option lacks its value.
    """
    options: dict[str, str] = {}
    for line in directive_lines(script):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            raise SchedulerError(f"sbatch: error: Unbalanced quotation mark in: {line.strip()}") from None
        position = 0
        while position < len(words):
            position += 1
            word, following = words[position - 1], words[position : position + 1]
            if word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                name = _long_name(name)
                given = [value] if equals else []
            elif word.startswith("-") and len(word) > 1:
                name = SHORT.get(word[1], "")
                if not name:
                    raise _refusal(f"invalid option -- '{word[1]}'")
                rest = word[2:].removeprefix("=")
                given = [rest] if rest and name in VALUED else []
            else:
                continue
            if name in FLAGS:
                options[name] = ""
            elif given:
                options[name] = given[0]
            elif VALUED[name]:
                options[name] = ""
            elif following:
                options[name] = following[0]
                position += 1
            else:
                raise _refusal(f"option '--{name}' requires an argument")
    return options


def _long_name(name: str) -> str:
    """Return the full name of an option. Names may be shortened as long as they stay unique."""
    if name in VALUED or name in FLAGS:
        return name
    matches = [known for known in (*VALUED, *FLAGS) if name and known.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    raise _refusal(f"{'option' if matches else 'unrecognized option'} '--{name}'{' is ambiguous' if matches else ''}")


def _refusal(problem: str) -> SchedulerError:
    return SchedulerError(
        f"sbatch: {problem}", 'sbatch: error: Try "sbatch --help" for more information', exit_status=255
    )
