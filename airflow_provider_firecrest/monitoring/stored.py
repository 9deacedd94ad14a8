"""Reads stored snapshots of jobs, which users may edit in Airflow's API: what cannot be right is left out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

from firecrest_core.jobs.snapshot import JobSnapshot

_LONGEST = 300
_LONGEST_PATH = 4096
_MOST_LINES = 200
_LARGEST = 1e12  # larger numbers are neither times nor sizes of a job

_PATHS = frozenset({"working_dir", "stdout", "stderr"})

# Many jobs share these.
_SHARED = frozenset({"system", "account", "partition"})


def read(value: str | None, *, with_history: bool = False) -> tuple[JobSnapshot, ...]:
    """Return the snapshots in a stored value: of one snapshot, or of a list of them.

    :param value: its JSON
    :param with_history: with what happened to the jobs
    :returns: nothing if it is something else, such as the reference of a custom XCom backend
    """
    try:
        found = json.loads(value or "null")
        if isinstance(found, str):
            found = json.loads(found)
    except (ValueError, RecursionError):
        return ()
    several = found if isinstance(found, list) else [found]
    read = (_snapshot(one, with_history) for one in several if isinstance(one, dict))
    return tuple(one for one in read if one is not None)


def _snapshot(data: dict[str, Any], with_history: bool) -> JobSnapshot | None:
    known = {field.name: field for field in fields(JobSnapshot)}
    clean: dict[str, Any] = {}
    for name, value in data.items():
        if name not in known or name == "history":
            continue
        read, ok = _field(name, str(known[name].type), value)
        if ok:
            clean[name] = read
        elif known[name].default is MISSING:
            return None
    if with_history:
        clean["history"] = list(_history(data.get("history")))
    try:
        snapshot = JobSnapshot.from_dict(clean)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return snapshot if snapshot.job_id else None


def _field(name: str, kind: str, value: Any) -> tuple[Any, bool]:
    """Return a field's value, and whether it can be one."""
    if name == "state" or kind.startswith("str"):
        text = _text(value, _LONGEST_PATH if name in _PATHS else _LONGEST)
        return sys.intern(text) if text and name in _SHARED else text, text is not None
    if kind.startswith(("int", "float")):
        number = _number(value)
        return int(number) if number is not None and kind.startswith("int") else number, number is not None
    return value, True


def _history(lines: Any) -> Iterator[list[Any]]:
    for line in lines[-_MOST_LINES:] if isinstance(lines, list) else ():
        if isinstance(line, list) and len(line) == 2:
            at, text = _number(line[0]), _text(line[1], _LONGEST)
            if at is not None and text:
                yield [at, text]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) <= _LARGEST else None  # also of NaN


def _text(value: Any, longest: int) -> str | None:
    if not isinstance(value, str):
        return None
    # JSON may hold halves of characters, which no answer can be encoded with.
    whole = value[: longest + 1].encode("utf-8", "replace").decode()
    return whole if len(whole) <= longest else f"{whole[: longest - 1]}…"
