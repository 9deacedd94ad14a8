"""The elements of a chain's array that have stopped: they do not run again, and their work is not done."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from firecrest_core.followup import Note
from firecrest_core.indices import Indices
from firecrest_core.states import JobState

_GROUP = re.compile(r"([A-Z_]+)\.([a-z]+):([\d,:-]+)", re.ASCII)


class Why(StrEnum):
    """Why an element does not run again."""

    IDLE = "idle"  # it has left no new checkpoint, so another job would repeat it
    BOUND = "bound"  # the policy has come to its bound
    LAST = "last"  # there may be no more jobs
    FAILED = "failed"  # it has failed by itself, which the engine's retries are for


@dataclass(frozen=True, slots=True)
class Stopped:
    """Elements that have stopped alike.

    :param state: the state in which they ended
    :param why: why they do not run again
    :param indices: their indices
    :param job_id: the id of the array in which they ran last; empty if the caller has not asked for it
    """

    state: JobState
    why: Why
    indices: Indices
    job_id: str = ""


def to_text(groups: Iterable[Stopped]) -> str:
    """Return the form in which a note holds elements that have stopped.

    :param groups: the elements
    """
    return ";".join(f"{group.state}.{group.why}:{group.indices}" for group in groups)


def stopped_before(ends: Iterable[tuple[str, str]]) -> tuple[Stopped, ...]:
    """Return the elements that have stopped in earlier jobs, and that no retry has run again.

    :param ends: for each of the jobs, the oldest first, its id and what was written down of its end
    """
    found: list[Stopped] = []
    for job_id, cause in ends:
        note = Note.parse(cause)
        if note is None:
            continue
        found += [replace(group, job_id=job_id) for group in _parse(note.stopped)]
        with suppress(ValueError):
            again = Indices.parse(note.elements)
            found = [replace(group, indices=left) for group in found if (left := group.indices - again)]
    return tuple(found)


def _parse(text: str) -> Iterator[Stopped]:
    for part in text.split(";"):
        if match := _GROUP.fullmatch(part):
            with suppress(ValueError):  # a person may have changed it
                yield Stopped(JobState(match[1]), Why(match[2]), Indices.parse(match[3]))
