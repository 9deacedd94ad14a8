"""Job dependencies: `afterok:12:13,afterany:14`, `singleton`."""

from __future__ import annotations

import re
from dataclasses import dataclass

KINDS = ("after", "afterany", "afterburstbuffer", "aftercorr", "afterok", "afternotok")


@dataclass(frozen=True)
class Dependency:
    """One condition on one job.

    Parameters:
        kind: a word of `KINDS`, or `singleton`.
        job_id: the job it waits for; None for `singleton`.
        task_id: the element of an array that it waits for; None for the whole.
    """

    kind: str
    job_id: int | None = None
    task_id: int | None = None


@dataclass(frozen=True)
class Dependencies:
    """All conditions of a job.

    Parameters:
        conditions: the conditions.
        any_of: one of them is enough (written with `?`), else all are needed.
    """

    conditions: tuple[Dependency, ...] = ()
    any_of: bool = False


def parse_dependencies(text: str) -> Dependencies:
    """Read the value of `--dependency`.

    Raises:
        ValueError: Slurm would call it a job dependency problem.
    """
    any_of = "?" in text
    if any_of and "," in text:
        raise ValueError("both ',' and '?'")
    conditions: list[Dependency] = []
    for part in text.split("?" if any_of else ","):
        kind, *ids = part.strip().split(":")
        if kind.lower() == "singleton" and not ids:
            conditions.append(Dependency("singleton"))
            continue
        if kind.lower() not in KINDS or not ids:
            raise ValueError(f"not a dependency: {part!r}")
        for job_id in ids:
            match = re.fullmatch(r"(\d+)(?:_(\d+|\*))?(?:\+\d+)?", job_id)
            if match is None:
                raise ValueError(f"not a job id: {job_id!r}")
            task_id = int(match[2]) if match[2] and match[2] != "*" else None
            conditions.append(Dependency(kind.lower(), int(match[1]), task_id))
    return Dependencies(tuple(conditions), any_of)
