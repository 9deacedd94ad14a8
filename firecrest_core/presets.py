"""Presets: fields that many jobs share, under a name.

A preset is a table of a TOML file, or of a connection. It says where and how jobs run, and what follows when one has
ended, but not what runs::

    [clariden]
    system = "clariden"
    account = "a123"

    [clariden-train]
    inherits = "clariden"
    launcher = "torchrun"
    environment = {NCCL_DEBUG = "WARN"}

The values of a preset replace those that it inherits, and a job's own values replace those of its preset, field by
field. Variables of ``environment`` are replaced one by one. A blank value takes back an inherited one.

Presets are looked for in the file that ``FIRECREST_PRESETS`` names, or else in ``firecrest-presets.toml`` beside the
DAG or the flow, or, outside of both, beside the script that Python runs, or else in the connection. The first place
that exists counts alone, so a misspelt name is known to be misspelt.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from firecrest_core.chain import Chain
from firecrest_core.connection import Connection
from firecrest_core.errors import ConfigurationError, InvalidJobSpec
from firecrest_core.escalation import Escalation
from firecrest_core.hidden_values import without_hidden_values
from firecrest_core.near_names import suggestion
from firecrest_core.spec import validation
from firecrest_core.spec.jobspec import JobSpec, given_fields
from firecrest_core.system_names import check_system_name

FILE_NAME = "firecrest-presets.toml"
"""The name of the file beside a DAG or a flow."""

VARIABLE = "FIRECREST_PRESETS"
"""The environment variable that names another file."""

_PARENT = "inherits"
_OF_JOB = ("script", "script_path", "command", "working_dir", "alternatives", "metrics", "inputs", "outputs")


@dataclass(frozen=True)
class Preset:
    """One preset, with what it inherits.

    :param name: its name
    :param source: where it is, as messages call it
    :param system: the system of its jobs
    :param fields: the values of fields of a :class:`~firecrest_core.spec.jobspec.JobSpec`, in their normal forms
    :param escalate: the escalation policy of its jobs, as :meth:`Escalation.parse` reads it
    :param chain: their chain, as :meth:`Chain.parse` reads it
    """

    name: str
    source: str
    system: str | None
    fields: Mapping[str, Any]
    escalate: dict[str, Any] | None = None
    chain: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"preset {self.name!r} of {self.source}"

    def with_fields(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a job: its own, and those of the preset where it has none.

        :param given: the job's own fields, without blank ones
        """
        fields = {**self.fields, **given}
        if isinstance(given.get("environment"), Mapping):
            fields["environment"] = {**self.fields.get("environment", {}), **given["environment"]}
        return fields

    @contextmanager
    def named_in_errors(self, given: Mapping[str, Any]) -> Iterator[None]:
        """Let errors of fields that come from the preset say so.

        :param given: the job's own fields, and its policy or chain
        """
        try:
            yield
        except InvalidJobSpec as error:
            beside = {field for field in _BESIDE_SPEC if getattr(self, field) is not None}
            if error.field in given or error.field not in self.fields.keys() | beside:
                raise
            raise InvalidJobSpec(error.field, f"{error.problem} (It comes from the {self}.)") from None

    def summary(self) -> str:
        """Return a line for the log: the values, but of variables their names alone."""
        shown = {"system": self.system, **self.fields, "escalate": self.escalate, "chain": self.chain}
        if "environment" in shown:
            shown["environment"] = sorted(shown["environment"])
        values = ", ".join(f"{name}={_shown(value)}" for name, value in shown.items() if value is not None)
        return without_hidden_values(f"{str(self).capitalize()}: {values or 'no values'}.")


class Presets:
    """The presets of one place.

    :param tables: by name, what each one says
    :param source: the place, as messages call it
    :param missing: the file that would have counted before it
    :raises InvalidJobSpec: something is no table
    """

    def __init__(self, tables: Mapping[str, Any], source: str, missing: Path | None = None) -> None:
        for name, table in tables.items():
            if not isinstance(table, Mapping):
                raise _problem(f"{source}: {name!r} is no preset, which is a table of fields")
        self._tables, self._source, self._missing = tables, source, missing

    @classmethod
    def at_hand(cls, folder: Path | None) -> Presets | None:
        """Return the presets of a file that is here; ``None`` if there is none.

        :param folder: that of the DAG or the flow; ``None`` outside of both
        :raises InvalidJobSpec: the file cannot be read, or is no TOML
        """
        named = os.environ.get(VARIABLE)
        path = Path(named) if named else _file_beside(folder)
        if not (named or path.is_file()):
            return None
        try:
            return _read(path, path.stat().st_mtime_ns)
        except OSError as error:
            by = f"{VARIABLE} names {path}, which" if named else str(path)
            raise _problem(f"{by} cannot be read: {error.strerror}") from None

    @classmethod
    def find(cls, folder: Path | None, connection: Connection) -> Presets:
        """Return the presets of the first place that exists.

        :param folder: that of the DAG or the flow; ``None`` outside of both
        :param connection: which has presets, too
        :raises InvalidJobSpec: the file cannot be read, or is no TOML
        """
        return cls.at_hand(folder) or cls.of(connection, folder)

    @classmethod
    def of(cls, connection: Connection, folder: Path | None) -> Presets:
        """Return the presets of a connection.

        :param connection: the connection
        :param folder: where there is no file of presets, as for :meth:`at_hand`
        """
        return cls(connection.presets, f"the {connection.kept_in}", _file_beside(folder))

    def get(self, name: str) -> Preset:
        """Return a preset with what it inherits.

        :param name: its name
        :raises InvalidJobSpec: there is none, it inherits from itself, or a field or a value cannot be right
        """
        if not isinstance(name, str):
            raise _problem(f"the name of a preset is needed, not {name!r}")
        merged: dict[str, Any] = {}
        for table in reversed(self._chain_of(name)):
            if merged.get("environment") and table.get("environment"):
                table["environment"] = {**merged["environment"], **table["environment"]}
            merged |= table
        beside = {field: merged.pop(field, None) for field in _BESIDE_SPEC}
        return Preset(name, self._source, fields=given_fields(merged), **beside)

    def _chain_of(self, name: str) -> list[dict[str, Any]]:
        """Return the tables of a preset, of what it inherits from, and so on."""
        tables = list[dict[str, Any]]()
        names, after = list[str](), ""
        while name:
            if name in names:
                raise _problem(f"{self._source}: presets inherit in a circle: {' → '.join([*names, name])}")
            if name not in self._tables:
                raise _problem(f"{after}there is no preset {name!r} in {self._source}; {self._hint(name)}")
            names.append(name)
            table = dict(self._tables[name])
            parent = table.pop(_PARENT, None)
            if parent is not None and not isinstance(parent, str):
                raise _problem(f"{name!r} of {self._source}: {_PARENT} is {parent!r}; give the name of a preset")
            tables.append(self._checked(name, table))
            after, name = f"{name!r} inherits from {parent!r}, but ", parent or ""
        return tables

    def _hint(self, name: str) -> str:
        if self._tables:
            return suggestion(name, self._tables)
        other = f", and there is no file {self._missing}. {VARIABLE} may name another file" if self._missing else ""
        return f"it has none{other}"

    def _checked(self, name: str, table: Mapping[str, Any]) -> dict[str, Any]:
        of_spec = [each.name for each in dataclasses.fields(JobSpec) if each.name not in _OF_JOB]
        known = [*_BESIDE_SPEC, *of_spec]
        checked = dict[str, Any]()
        for field, value in table.items():
            where = f"{name!r} of {self._source}: "
            if field in _OF_JOB:
                raise _problem(f"{where}{field} belongs to the job: a preset does not say what it runs, and where")
            if field not in known:
                from firecrest_core.spec.field_hints import meaning

                hint = meaning(field, known) or f"there are {_PARENT}, {', '.join(known)}"
                raise _problem(f"{where}{field!r} is no field of a preset; {hint}")
            try:
                if not given_fields({field: value}):
                    checked[field] = None
                elif field in _BESIDE_SPEC:
                    checked[field] = _BESIDE_SPEC[field](value)
                else:
                    checked[field] = validation.checked(field, value)
            except (InvalidJobSpec, ConfigurationError) as error:
                raise _problem(f"{where}{error}") from None
        return checked


def _policy(value: Any) -> dict[str, Any]:
    Escalation.parse(value)
    return dict(value)


def _chain(value: Any) -> dict[str, Any]:
    return Chain.parse(value).to_dict()


# What a preset may have besides fields of a JobSpec, and what reads it.
_BESIDE_SPEC: dict[str, Callable[[Any], Any]] = {"system": check_system_name, "escalate": _policy, "chain": _chain}


def _file_beside(folder: Path | None) -> Path:
    if folder is None:  # nor has an interactive session a script
        script = getattr(sys.modules["__main__"], "__file__", None)
        folder = Path(script).parent if script else Path()
    return (folder / FILE_NAME).absolute()


@lru_cache(maxsize=16)  # each task of a DAG file reads it, and each parse of the file; it changes with its time
def _read(path: Path, changed: int) -> Presets:
    import tomllib

    try:
        return Presets(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _problem(f"{path} is no TOML: {error}") from None


def _shown(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)


def _problem(text: str) -> InvalidJobSpec:
    return InvalidJobSpec("preset", text)
