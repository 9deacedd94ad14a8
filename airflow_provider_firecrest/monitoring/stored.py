"""Reads stored snapshots of jobs, which users may edit in Airflow's API: what cannot be right is left out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from firecrest_core.jobs.snapshot import HistoryLine, JobSnapshot
from firecrest_core.states import JobState

_LONGEST = 300
_LONGEST_PATH = 4096
_LONGEST_MAPPING = 4096
_MOST_LINES = 200
_LARGEST = 1e12  # larger numbers are neither times nor sizes of a job

_PATHS = frozenset({"working_dir", "stdout", "stderr"})

# Many jobs share these.
_SHARED = frozenset({"system", "connection_id", "account", "partition"})

_STATES = {state.value: state for state in JobState}


def read(value: str | None, *, with_history: bool = False) -> tuple[JobSnapshot, ...]:
    """Return the snapshots in a stored value: of one snapshot, or of a list of them.

    :param value: its JSON
    :param with_history: with what happened to the jobs
    :returns: nothing if it is something else, such as the reference of a custom XCom backend
    """
    try:
        found = _DECODER.decode(value or "null")
        if isinstance(found, str):
            found = _DECODER.decode(found)
    except (ValueError, RecursionError):
        return ()
    several = found if isinstance(found, list) else [found]
    read = (_snapshot(one, with_history) for one in several if isinstance(one, dict))
    return tuple(one for one in read if one is not None)


def _snapshot(data: dict[str, Any], with_history: bool) -> JobSnapshot | None:
    clean: dict[str, Any] = {}
    for name, field in _READERS.items():
        value = data.get(name)
        if value is not None and (value := field(value)) is not None:
            clean[name] = value
    if not (clean.get("job_id") and clean.get("system") and "state" in clean):
        return None
    if with_history:
        clean["history"] = tuple(_history(data.get("history")))
    return JobSnapshot(**clean)


def _history(lines: Any) -> Iterator[HistoryLine]:
    for line in lines[-_MOST_LINES:] if isinstance(lines, list) else ():
        if isinstance(line, list) and len(line) == 2:
            at, text = _number(line[0]), _text(line[1])
            if at is not None and text:
                yield HistoryLine(at, text)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) <= _LARGEST else None


def _whole_number(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _text(value: Any, longest: int = _LONGEST) -> str | None:
    if not isinstance(value, str):
        return None
    whole = value[: longest + 1]
    if not whole.isascii():  # JSON may hold halves of characters, with which no answer can be encoded
        whole = whole.encode("utf-8", "replace").decode()
    return whole if len(whole) <= longest else f"{whole[: longest - 1]}…"


def _path(value: Any) -> str | None:
    return _text(value, _LONGEST_PATH)


def _shared_text(value: Any) -> str | None:
    text = _text(value)
    return None if text is None else sys.intern(text)


def _state(value: Any) -> JobState | None:
    return _STATES.get(value) if isinstance(value, str) else None


def _mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) and len(json.dumps(value)) <= _LONGEST_MAPPING else None


def _reader(name: str, kind: str) -> Callable[[Any], Any]:
    if name == "state":
        return _state
    if name in _PATHS:
        return _path
    if name in _SHARED:
        return _shared_text
    return _BY_KIND[kind.removesuffix(" | None")]


_BY_KIND: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "int": _whole_number,
    "float": _number,
    "Mapping[str, Any]": _mapping,
}

_READERS = {each.name: _reader(each.name, str(each.type)) for each in fields(JobSnapshot) if each.name != "history"}

# NaN and the infinities are no JSON, but Python reads them.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)
