"""Templates in the arguments of an operator: which are some, which name a file, and whether Jinja can read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from airflow_provider_firecrest.airflow_internals import syntax_error
from airflow_provider_firecrest.exceptions import task_error

TEMPLATE_FILES = (".sh", ".bash", ".sbatch", ".slurm", ".pbs", ".j2")

_LITERAL = (
    "It is a template, in which {{, {% and {# have a meaning. Put text that holds them between {% raw %} and "
    "{% endraw %}, or give the whole as literal(…) of airflow.sdk."
)
_MARKS = ("{{", "{%", "{#")


def is_template(value: Any) -> bool:
    """Tell whether a value is known only when the task runs: a template, or what another task returns.

    :param value: an argument of an operator
    """
    if hasattr(value, "resolve") or callable(value):
        return True
    return any(mark in text for text in texts(value) for mark in _MARKS) or (
        isinstance(value, Mapping | list | tuple) and any(map(is_template, _values(value)))
    )


def _values(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, Mapping) else value


def texts(value: Any) -> Iterable[str]:
    """Yield the texts in a value, as Airflow renders them.

    :param value: an argument of an operator
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for each in _values(value):
            yield from texts(each)


def names_template_file(script: Any) -> bool:
    """Tell whether ``script`` is the name of a file; a script itself has more than one line.

    :param script: the argument
    """
    return isinstance(script, str) and "\n" not in script and script.endswith(TEMPLATE_FILES)


def script_text(script: Any, jinja_env: Any) -> Any:
    """Return the text of the file that ``script`` names, or the script itself.

    :param script: the argument
    :param jinja_env: Jinja's environment
    :raises InvalidJobSpec: there is no such file
    """
    from firecrest_core.errors import InvalidJobSpec

    if not names_template_file(script):
        return script
    if jinja_env.loader is not None:
        with suppress(LookupError):  # jinja2.TemplateNotFound
            return jinja_env.loader.get_source(jinja_env, script)[0]
    raise task_error(
        InvalidJobSpec(
            "script",
            f"there is no template file {script!r} beside the DAG or in its template_searchpath. A file on the cluster "
            "goes into script_path.",
        )
    )


def check_syntax(field: str, text: str, jinja_env: Any) -> None:
    """Refuse what Jinja cannot read. Airflow shows its error without field and line, when the task runs.

    :param field: the argument's name
    :param text: a text in it
    :param jinja_env: Jinja's environment
    :raises InvalidJobSpec: with the field, the number of the line and Jinja's words
    """
    if not any(mark in text for mark in _MARKS):
        return
    if error := syntax_error(text, jinja_env):
        number, message = error
        line = f", {text.split(chr(10))[number - 1].strip()[:80]!r}" if field in ("script", "command") else ""
        raise template_error(field, f"line {number}{line}: {message}", _LITERAL)


def template_error(field: str, problem: str, advice: str) -> Exception:
    """Return the error for a field that Jinja cannot render.

    :param field: its name
    :param problem: Jinja's words
    :param advice: what to do
    """
    from firecrest_core.errors import InvalidJobSpec

    return task_error(InvalidJobSpec(field, f"Jinja cannot render it: {problem}. {advice}"))
