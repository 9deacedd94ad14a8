"""Job dependencies: `afterok:12:13,afterany:14`, `singleton`."""

from __future__ import annotations

import re
from dataclasses import dataclass

KINDS = ("after", "afterany", "afterburstbuffer", "aftercorr", "afterok", "afternotok")


@dataclass(frozen=True)
class Dependency:
    """One condition on one job.

    :param kind: one of `KINDS`, or `singleton`.
    :param job_id: the job that is waited for; None for `singleton`.
    :param task_id: the element of an array that is waited for; None for the whole array.
    """

    kind: str
    job_id: int | None = None
    task_id: int | None = None


@dataclass(frozen=True)
class Dependencies:
    """All conditions of a job.

    :param conditions: the conditions.
    :param any_of: whether one condition is enough (written with `?`). Otherwise all are needed.
    """

    conditions: tuple[Dependency, ...] = ()
    any_of: bool = False


def parse_dependencies(text: str) -> Dependencies:
    """Read the value of `--dependency`.

    :raises ValueError: Slurm calls this a job dependency problem.
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
