"""The elements of a job array, in groups of those in the same state: an array of any size takes little room.

An XCom, an event or an artifact holds a few kilobytes. So in a result, a group has the number of its elements, and of
their indices as many as there is room for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from firecrest_core.indices import Indices
from firecrest_core.states import JobState

# In a result: the groups, and the characters of the indices of all of them. Together at most some 6 kB.
_MOST_GROUPS = 32
_MOST_CHARACTERS = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementResult:
    """How one element of a job array ended.

    :param index: its index in the array
    :param state: the state in which it ended
    :param exit_code: of the script; ``None`` if the scheduler did not report it
    """

    index: int
    state: JobState
    exit_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementGroup:
    """Elements of a job array that are in the same state.

    :param state: their state
    :param indices: their indices; in a result perhaps only the first of them
    :param count: how many they are
    :param exit_code: of each one's script; ``None`` if the scheduler did not report it, or if they differ
    :param recorded: the scheduler has a record of them; ``False`` for elements that were cancelled before they ran
    """

    state: JobState
    indices: Indices
    count: int
    exit_code: int | None = None
    recorded: bool = True

    @classmethod
    def of(
        cls, indices: Indices, state: JobState, exit_code: int | None = None, *, recorded: bool = True
    ) -> ElementGroup:
        """Return the group of the elements with these indices."""
        return cls(state=state, indices=indices, count=len(indices), exit_code=exit_code, recorded=recorded)

    @property
    def failed(self) -> bool:
        """Whether they did not end COMPLETED."""
        return self.state is not JobState.COMPLETED

    def to_dict(self) -> dict[str, Any]:
        """Return the group as JSON types; :meth:`from_dict` reads them back."""
        return {
            "state": self.state.value,
            "indices": str(self.indices),
            "count": self.count,
            "exit_code": self.exit_code,
            "recorded": self.recorded,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ElementGroup:
        """Return the group that :meth:`to_dict` wrote."""
        return cls(**{**data, "state": JobState(data["state"]), "indices": Indices.parse(data["indices"])})


def counts(groups: Iterable[ElementGroup]) -> dict[JobState, int]:
    """Return how many elements of an array are in which state, the most frequent first."""
    found: Counter[JobState] = Counter()
    for group in groups:
        found[group.state] += group.count
    return dict(found.most_common())


def counts_in_words(groups: Iterable[ElementGroup]) -> str:
    """Return the counts in words, such as ``9 COMPLETED, 1 FAILED``; empty for a job that is no array."""
    return ", ".join(f"{count} {state}" for state, count in counts(groups).items())


def expand(groups: Iterable[ElementGroup]) -> tuple[ElementResult, ...]:
    """Return the elements of groups one by one, in the order of their indices."""
    elements = (
        ElementResult(index=index, state=group.state, exit_code=group.exit_code)
        for group in groups
        for index in group.indices
    )
    return tuple(sorted(elements, key=lambda element: element.index))


def shorten(groups: Sequence[ElementGroup]) -> tuple[ElementGroup, ...]:
    """Return groups that take little room, whatever they hold: those of elements that failed come first.

    :param groups: the elements of one array
    """
    if len(groups) > _MOST_GROUPS:
        groups = _by_state(groups)
    room, shortened = _MOST_CHARACTERS, []
    for group in sorted(groups, key=lambda group: (not group.failed, not group.recorded)):
        indices = group.indices.shortened(room)
        room -= len(str(indices))
        shortened.append(replace(group, indices=indices))
    return tuple(shortened)


def _by_state(groups: Iterable[ElementGroup]) -> list[ElementGroup]:
    alike: defaultdict[tuple[JobState, bool], list[ElementGroup]] = defaultdict(list)
    for group in groups:
        alike[group.state, group.recorded].append(group)
    return [
        ElementGroup.of(Indices.joined(group.indices for group in several), state, recorded=recorded)
        for (state, recorded), several in alike.items()
    ]
