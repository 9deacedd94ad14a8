"""Validation of the fields of a job specification, and their normal forms.

:func:`checked` is called for every field that is given, :func:`check_together` for those that can contradict
each other. A message begins with the field's name and says what would be valid.
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.hidden_values import hide_value, looks_secret
from firecrest_core.near_names import suggestion
from firecrest_core.spec import arrays, containers, launchers, options, quantities, script_text, shell

if TYPE_CHECKING:
    from pydantic import SecretStr

# PBS's limit (Slurm's accounting database has 255).
LONGEST_NAME = 230
_NOT_IN_NAMES = "| , / \\ ' \" ` $"
# Linux's limit on one text among a program's arguments and variables, with the NUL at its end (execve(2)).
_LONGEST_VARIABLE = 128 * 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE_NAME = re.compile(r"[\w./~$+-]*\.\w+")
_UENV = re.compile(r"([\w./:@%,+-]+)(?:\s+--view=([\w./:,+-]+))?", re.ASCII)
_SIGNAL = re.compile(r"(?:(?:B|R|BR|RB):)?(\w+(?:[+-]\d+)?)(?:@(\d+))?", re.ASCII)
# 12, 12_3, 12_*, 12+5 (minutes later) of Slurm; 12[], 12[3], 12.server of PBS
_JOB = r"\d+(?:_(?:\d+|\*))?(?:\[\d*\])?(?:\.[\w.-]+)?(?:\+\d+)?"
_DEPENDENCY = re.compile(rf"singleton|(?:after|afterany|afterburstbuffer|aftercorr|afternotok|afterok)(?::{_JOB})+")


def checked(field: str, value: Any) -> Any:
    """Return the value of a field in its normal form.

    :param field: the field's name
    :param value: as the user gave it, not ``None``
    :raises InvalidJobSpec: it is not valid
    """
    return _CHECKS[field](field, value)


def check_name(field: str, name: str) -> str:
    """Return a job name that Slurm, PBS, FirecREST and file systems can handle.

    FirecREST reads ``|`` as the end of a column and loses the job, ``squeue --name`` splits at commas, and ``%x`` makes
    a file name of it.

    :param field: the field to name in the message
    :param name: the job name
    :raises InvalidJobSpec: it is not valid
    """
    _text(field, name)
    if bad := sorted(set(name) & set(_NOT_IN_NAMES.split())):
        listed = " and ".join(f"{character!r}" for character in bad)
        raise InvalidJobSpec(
            field, f"the job name {name!r} holds {listed}; a job name may hold none of {_NOT_IN_NAMES}"
        )
    if name != name.strip():
        raise InvalidJobSpec(field, f"the job name {name!r} begins or ends with white space")
    if len(name) > LONGEST_NAME:
        raise InvalidJobSpec(field, f"a job name of {len(name)} characters; at most {LONGEST_NAME} are possible")
    return name


def check_together(
    *,
    nodes: int | str | None,
    ntasks: int | None,
    ntasks_per_node: int | None,
    gpus: int | str | None,
    gpus_per_node: int | str | None,
) -> None:
    """Refuse fields that contradict each other. The parameters are the fields of the same names.

    :raises InvalidJobSpec: two of them contradict each other; the message names one
    """
    per_node = ntasks_per_node
    if isinstance(nodes, int) and ntasks is not None and per_node is not None and ntasks > nodes * per_node:
        raise InvalidJobSpec("ntasks", f"{ntasks} tasks are more than {nodes} nodes with {per_node} each hold")
    total, each = quantities.gpu_count(gpus), quantities.gpu_count(gpus_per_node)
    if total is None or each is None:
        return
    if isinstance(nodes, int) and total != nodes * each:
        raise InvalidJobSpec("gpus", f"{total} in all, but {nodes} nodes with gpus_per_node={each} have {nodes * each}")
    if (each and total % each) or (total and not each):
        raise InvalidJobSpec("gpus", f"{total} in all cannot be had from nodes with gpus_per_node={each}")


def check_signal(signal: str | None, time_limit: int | str | timedelta | None) -> None:
    """Refuse a signal that would come when the job begins.

    :param signal: the field
    :param time_limit: the field, or the script's own option
    :raises InvalidJobSpec: it comes as many seconds before the end as the job has, or more
    """
    before = (signal or "").partition("@")[2]
    try:
        limit = quantities.seconds(time_limit) if time_limit and before.isdecimal() else None
    except ValueError:  # of the script
        return
    if limit is not None and int(before) >= limit:
        raise InvalidJobSpec(
            "signal",
            f"{signal!r} comes {before} seconds before the end of {limit} seconds, so at once; give fewer seconds, or "
            "a longer time_limit",
        )


def check_variables(environment: Iterable[str], shell_name: str) -> None:
    """Refuse variables that the script's shell would not pass on as they are.

    :param environment: the names of the variables
    :param shell_name: the shell that sets them
    :raises InvalidJobSpec: it keeps one of them for itself
    """
    for name in environment:
        if shell.is_own_variable(name, shell_name):
            raise InvalidJobSpec("environment", f"{name} is a variable of {shell_name}'s own; set it in the script")


# --- one field ------------------------------------------------------------------------------------


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidJobSpec(field, f"a text is needed, not {type(value).__name__} {value!r}")
    if not value.strip():
        raise InvalidJobSpec(field, "is empty; leave it out instead")
    if control := _CONTROL.search(value):
        raise InvalidJobSpec(field, f"{value!r} holds a new line or control character ({control.group()!r})")
    if problem := script_text.not_of_a_file(value):
        raise InvalidJobSpec(field, f"{value!r} holds {problem}")
    return value


def _word(field: str, value: Any) -> str:
    text = _text(field, value)
    if re.search(r"[\s'\"]", text):
        raise InvalidJobSpec(field, f"{text!r} holds white space or a quote")
    return text


def _path(field: str, value: Any) -> str:
    path = _text(field, value)
    if "'" in path or '"' in path:
        raise InvalidJobSpec(field, f"{path!r} holds a quote, which breaks the server's shell line")
    if path != path.strip():
        raise InvalidJobSpec(field, f"{path!r} begins or ends with white space; leave it out")
    return path


def _remote(field: str, value: Any) -> str:
    return _path(field, value).rstrip("/") or "/"


def _script(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidJobSpec(field, f"the text of a script is needed, not {type(value).__name__}")
    script = script_text.at_the_margin(script_text.with_unix_lines(value))
    if "\n" not in script and _FILE_NAME.fullmatch(script):
        raise InvalidJobSpec(
            field, f"{script!r} is the name of a file; its text is needed. A file on the cluster goes into script_path"
        )
    if not script.startswith("#!") or not script.split("\n", 1)[0][2:].strip():
        raise InvalidJobSpec(
            field,
            f"the first line must name an interpreter, such as #!/bin/bash; it is {script[:40].split(chr(10))[0]!r}",
        )
    if problem := script_text.not_of_a_file(script):
        raise InvalidJobSpec(field, f"holds {problem}")
    return script


def _command(field: str, value: Any) -> str | tuple[str, ...]:
    words = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else (None,)
    for word in words:
        if not isinstance(word, str) or script_text.not_of_a_file(word):
            raise InvalidJobSpec(field, f"a line of shell or a sequence of words is needed, not {value!r}")
    if not words or not str(words[0]).strip():
        raise InvalidJobSpec(field, "is empty; name something to run")
    return script_text.with_unix_lines(value) if isinstance(value, str) else words


def _number(least: int) -> Callable[[str, Any], int]:
    def check(field: str, value: Any) -> int:
        number = quantities.whole_number(value)
        if number is None:
            raise InvalidJobSpec(field, f"a whole number is needed, not {value!r}")
        if number < least:
            raise InvalidJobSpec(field, f"{number} is too few; at least {least} is needed")
        return number

    return check


def _by(convert: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    """Make a check of a function that raises ValueError."""

    def check(field: str, value: Any) -> Any:
        try:
            return convert(value)
        except ValueError as error:
            raise InvalidJobSpec(field, str(error)) from None

    return check


def _time(value: int | str | timedelta) -> str:
    return quantities.slurm_time(quantities.seconds(value))


def _array(field: str, value: Any) -> str:
    # A single index may be given as a number.
    index = None if isinstance(value, str) else quantities.whole_number(value)
    text = _text(field, value) if index is None else str(index)
    _by(arrays.indices)(field, text)
    return "".join(text.split()).removeprefix("[").removesuffix("]")


def _dependency(field: str, value: Any) -> str:
    if isinstance(value, Mapping):
        value = ",".join(
            ":".join([str(kind), *map(str, jobs if isinstance(jobs, list | tuple) else [jobs])])
            for kind, jobs in value.items()
        )
    text = _text(field, value).replace(" ", "")
    if "," in text and "?" in text:
        raise InvalidJobSpec(field, f"{text!r} mixes ',' (all must be met) with '?' (any)")
    for part in re.split(r"[,?]", text):
        if not _DEPENDENCY.fullmatch(part):
            raise InvalidJobSpec(
                field, f"{part!r} is not a dependency; the form is 'afterok:12:13' (afterany, afternotok, …)"
            )
    return text


def _environment(field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidJobSpec(field, f"a mapping of names to texts is needed, not {type(value).__name__}")
    environment = {}
    for name, given in value.items():
        secret: Any = given if hasattr(given, "get_secret_value") else getattr(given, "value", None)  # Prefect's Secret
        is_secret = hasattr(secret, "get_secret_value")
        content = secret.get_secret_value() if is_secret else given
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise InvalidJobSpec(field, f"{name!r} is not a variable's name")
        if isinstance(content, int | float) and not isinstance(content, bool):
            content = str(content)
        # The message does not show the value, because it may be a secret.
        if not isinstance(content, str):
            raise InvalidJobSpec(field, f"{name} must be a text, not {type(content).__name__}")
        if problem := script_text.not_of_a_file(content):
            raise InvalidJobSpec(field, f"{name} holds {problem}")
        if len(f"{name}={content}".encode()) >= _LONGEST_VARIABLE:
            raise InvalidJobSpec(field, f"{name} has more than 128 kB, and Linux starts no program then. Use a file")
        if is_secret or looks_secret(name, content):
            hide_value(content)
        environment[name] = _secret(content) if is_secret else content
    return environment


def _secret(text: str) -> SecretStr:
    from pydantic import SecretStr  # not at the top: DAG files import this module

    return SecretStr(text)


def _uenv(field: str, value: Any) -> str:
    match = _UENV.fullmatch(_text(field, value).strip())
    if not match:
        raise InvalidJobSpec(field, f"{value!r}; the form is 'name/version:tag' or 'name/version:tag --view=default'")
    image, views = match.groups()
    return f"{image} --view={views}" if views else str(image)


def _signal(field: str, value: Any) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(field, value).strip()
    match = _SIGNAL.fullmatch(text)
    if not match:
        raise InvalidJobSpec(field, f"{text!r}; the form is 'USR1@60' or 'B:USR1@60' (seconds before the end)")
    name, before = match.groups()
    if not name.isdecimal() and "SIG" + name.upper().removeprefix("SIG") not in signals.Signals.__members__:
        raise InvalidJobSpec(field, f"{name!r} is not a signal")
    if before and int(before) > 65535:
        raise InvalidJobSpec(field, f"{before} seconds before the end; at most 65535 are possible")
    return text


def _directives(field: str, value: Any) -> tuple[str, ...]:
    lines = (value,) if isinstance(value, str) else value
    if not isinstance(lines, Sequence):
        raise InvalidJobSpec(field, f"a sequence of options is needed, not {value!r}")
    checked_lines = []
    for line in lines:
        directive = _text(field, line).strip()
        if not re.match(r"(?:#(?:SBATCH|PBS)\s+)?-", directive):
            raise InvalidJobSpec(field, f"{directive!r} is not an option; it begins with '-'")
        if other := options.field_of(directive):
            raise InvalidJobSpec(field, f"{directive!r} has a field of its own: {other}")
        checked_lines.append(directive)
    return tuple(checked_lines)


def _one_of(values: Collection[str]) -> Callable[[str, Any], str]:
    def check(field: str, value: Any) -> str:
        text = _text(field, value).strip()
        if text not in values:
            raise InvalidJobSpec(field, f"{text!r}; {suggestion(text, values)}")
        return text

    return check


def _modules(field: str, value: Any) -> tuple[str, ...]:
    names = value.split() if isinstance(value, str) else value
    if not isinstance(names, Sequence):
        raise InvalidJobSpec(field, f"a sequence of modules is needed, not {value!r}")
    return tuple(_word(field, name) for name in names)


def _setup(field: str, value: Any) -> tuple[str, ...]:
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, Sequence):
        raise InvalidJobSpec(field, f"lines of shell are needed, not {value!r}")
    lines: list[str] = []
    for part in parts:
        if not isinstance(part, str):
            raise InvalidJobSpec(field, f"a line of shell is needed, not {part!r}")
        if problem := script_text.not_of_a_file(part):
            raise InvalidJobSpec(field, f"holds {problem}")
        lines += script_text.with_unix_lines(part).removesuffix("\n").split("\n")
    return tuple(lines)


def _mounts(field: str, value: Any) -> tuple[str, ...]:
    mounts = [value] if isinstance(value, str) else value
    if not isinstance(mounts, Sequence):
        raise InvalidJobSpec(field, f"a sequence of mounts is needed, not {value!r}")
    for mount in mounts:
        parts = _word(field, mount).split(":")
        if len(parts) > 3 or "," in mount or not all(part.startswith(("/", "~", "$")) for part in parts[:2]):
            raise InvalidJobSpec(field, f"{mount!r}; the form is '/path' or '/path/there:/path/in/the/container:ro'")
    return tuple(mounts)


def _boolean(field: str, value: Any) -> bool:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if not isinstance(value, bool):
        raise InvalidJobSpec(field, f"True or False is needed, not {value!r}")
    return value


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "working_dir": _remote,
    "script": _script,
    "script_path": _remote,
    "command": _command,
    "launcher": _one_of(launchers.LAUNCHERS),
    "login_shell": _boolean,
    "modules": _modules,
    "setup": _setup,
    "name": check_name,
    "account": _word,
    "partition": _word,
    "nodes": _by(quantities.nodes),
    "ntasks": _number(1),
    "ntasks_per_node": _number(1),
    "cpus_per_task": _number(1),
    "gpus": _by(quantities.gpus),
    "gpus_per_node": _by(quantities.gpus),
    "memory": _by(quantities.memory),
    "time_limit": _by(_time),
    "array": _array,
    "dependency": _dependency,
    "qos": _word,
    "constraint": _word,
    "reservation": _word,
    "environment": _environment,
    "uenv": _uenv,
    "container": _path,
    "container_runtime": _one_of(containers.RUNTIMES),
    "container_mounts": _mounts,
    "signal": _signal,
    "directives": _directives,
    "stdout": _path,
    "stderr": _path,
    "requeue": _boolean,
    "usage": _boolean,
}
