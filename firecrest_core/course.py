"""The course of a task whose job was followed by others: the jobs before the last one, and what that one was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EarlierJob:
    """A job that was followed by another one.

    :param job_id: its id
    :param cause: why another one followed, as :class:`~firecrest_core.followup.Cause` names it; ``retry`` if its task
        was tried again
    """

    job_id: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What has led to the job that ended last, and what it was given.

    :param earlier_jobs: the jobs before it, the oldest first
    :param memory: its memory on each node, such as ``64G``; ``None`` if nothing was asked for
    :param time_limit: its time limit, such as ``08:00:00``; ``None`` if nothing was asked for
    :param excluded_nodes: the nodes that it had to leave out, in Slurm's form
    :param problem: a sentence: why no other job follows, although the work is not done; empty if it is
    :param retry_helps: another try of the task may get further all the same: an element of an array has failed by
        itself
    """

    earlier_jobs: tuple[EarlierJob, ...] = ()
    memory: str | None = None
    time_limit: str | None = None
    excluded_nodes: str = ""
    problem: str = ""
    retry_helps: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the course as JSON types; :meth:`from_dict` reads them back."""
        return asdict(self) | {"earlier_jobs": [asdict(job) for job in self.earlier_jobs]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Course:
        """Return the course that :meth:`to_dict` wrote."""
        return cls(**{**data, "earlier_jobs": tuple(EarlierJob(**job) for job in data["earlier_jobs"])})
