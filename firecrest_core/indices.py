"""Sets of array indices as ranges, in Slurm's form: ``0-3,8,10-20:5``.

Nothing here takes longer for more indices. An array of a million elements that wait is one range, in memory as in the
scheduler's row. Only what iterates over the indices makes them one by one.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import merge
from itertools import chain, groupby, islice
from math import gcd
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

LARGEST_INDEX = 4_000_000
"""Slurm compiles in 4,000,001 as the largest MaxArraySize, so a larger index is an error of who wrote it."""

# Arrays have one or two ranges with a step. Many that overlap in odd ways would fall into millions of pieces.
_MOST_STEPPED, _MOST_PIECES = 10, 100
_RANGE = re.compile(r"(\d{1,20})(?:-(\d{1,20})(?::(\d{1,20}))?)?", re.ASCII)


class Indices(Collection[int]):
    """A set of array indices. It cannot be changed.

    :param ranges: any ranges of indices, which may overlap
    :raises ValueError: too many of them have a step. Operators raise it, too.
    """

    __slots__ = ("_ranges",)

    def __init__(self, ranges: Iterable[range] = ()) -> None:
        runs, stepped = _by_kind(ranges)
        if len(stepped) > _MOST_STEPPED:
            raise _too_intricate()
        found = _joined(runs)
        for each in stepped:
            found += _without([each], found)
            if len(found) > len(runs) + _MOST_PIECES:
                raise _too_intricate()
        self._ranges = _sorted(found)

    @classmethod
    def union(cls, sets: Iterable[Indices]) -> Indices:
        """Return the union of sets.

        :raises ValueError: too many of their ranges have a step
        """
        return cls(each for one in sets for each in one._ranges)

    @classmethod
    def joined(cls, sets: Iterable[Indices]) -> Indices:
        """Return the union of sets that have no index in common."""
        return cls._disjoint(each for one in sets for each in one._ranges)

    @classmethod
    def _disjoint(cls, ranges: Iterable[range]) -> Indices:
        made = cls()
        made._ranges = _sorted(ranges)
        return made

    @classmethod
    def of(cls, indices: Iterable[int]) -> Indices:
        """Return the set of these indices."""
        ordered = enumerate(sorted(set(indices)))
        runs = [list(run) for _, run in groupby(ordered, key=lambda pair: pair[1] - pair[0])]
        return cls(range(run[0][1], run[-1][1] + 1) for run in runs)

    @classmethod
    def parse(cls, text: str) -> Indices:
        """Read Slurm's form.

        :param text: for example ``0-3,8,10-20:5``; an empty text is the empty set
        :raises ValueError: it has another form, a range of it is empty, or an index is larger than Slurm's largest
        """
        return cls(map(_range, text.split(","))) if text else cls()

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: GetCoreSchemaHandler) -> Any:
        """Let pydantic read the text form, where what was stored of a job is checked."""
        from pydantic import AfterValidator

        return handler.generate_schema(Annotated[str, AfterValidator(cls.parse)])

    @property
    def first(self) -> int:
        """The smallest index.

        :raises IndexError: there is none
        """
        return self._ranges[0].start

    @property
    def last(self) -> int:
        """The largest index.

        :raises ValueError: there is none
        """
        return max(each[-1] for each in self._ranges)

    def shortened(self, characters: int) -> Indices:
        """Return the first of these indices, as many ranges as Slurm's form has room for in so many characters."""
        kept = []
        for each in self._ranges:
            characters -= len(_text(each)) + 1
            if characters < -1:
                break
            kept.append(each)
        return Indices._disjoint(kept)

    def __len__(self) -> int:
        return sum(map(len, self._ranges))

    def __iter__(self) -> Iterator[int]:
        return merge(*self._ranges)

    def __contains__(self, index: object) -> bool:
        return any(index in each for each in self._ranges)

    def __or__(self, other: Indices) -> Indices:
        return Indices._disjoint((*self._ranges, *_without(other._ranges, self._ranges)))

    def __sub__(self, other: Indices) -> Indices:
        return Indices._disjoint(_without(self._ranges, other._ranges))

    def __and__(self, other: Indices) -> Indices:
        return self - (self - other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Indices) and len(self) == len(other) and not self - other

    def __hash__(self) -> int:
        return hash((len(self), self.first if self else None))

    def __str__(self) -> str:
        return ",".join(map(_text, self._ranges))

    def __repr__(self) -> str:
        return f"Indices({str(self)!r})"


def _range(text: str) -> range:
    match = _RANGE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text.strip()!r} is not an index or a range of indices, such as 5, 0-3 or 0-15:4")
    first, last, step = match.groups()
    low, high, stride = int(first), int(last or first), int(step or 1)
    if high < low or stride < 1:
        raise ValueError(f"the range {text.strip()!r} is empty")
    if high > LARGEST_INDEX:
        raise ValueError(f"{high} is beyond Slurm's largest index")
    return range(low, high + 1, stride)


def _text(each: range) -> str:
    if len(each) == 1:
        return str(each[0])
    return f"{each[0]}-{each[-1]}" + (f":{each.step}" if each.step > 1 else "")


def _first(each: range) -> int:
    return each.start


def _by_kind(ranges: Iterable[range]) -> tuple[list[range], list[range]]:
    """Return those with step 1, or of one index, and those with a step."""
    runs: list[range] = []
    stepped: list[range] = []
    for each in filter(None, ranges):
        (runs if each.step == 1 or len(each) == 1 else stepped).append(each)
    return runs, stepped


def _sorted(ranges: Iterable[range]) -> tuple[range, ...]:
    runs, stepped = _by_kind(ranges)
    return tuple(sorted((*_joined(runs), *stepped), key=_first))


def _joined(runs: Iterable[range]) -> list[range]:
    """Return the same indices as runs that are sorted and neither overlap nor touch."""
    joined: list[range] = []
    for run in sorted(runs, key=_first):
        first, stop = run[0], run[-1] + 1
        if joined and first <= joined[-1].stop:
            joined[-1] = range(joined[-1].start, max(joined[-1].stop, stop))
        else:
            joined.append(range(first, stop))
    return joined


def _without(ranges: Iterable[range], others: Sequence[range]) -> list[range]:
    """Return what is left of ranges without the indices of others.

    :param ranges: any ranges
    :param others: any ranges
    """
    runs, stepped = _by_kind(others)
    runs = _joined(runs)
    left = [piece for each in ranges for piece in _cut(each, runs)]
    for one in stepped:
        left = _thinned(left, one)
    return left


def _cut(each: range, runs: Sequence[range]) -> Iterator[range]:
    """Yield the pieces of a range between runs."""
    begin = max(0, bisect_right(runs, each.start, key=_first) - 1)
    end = bisect_left(runs, each.stop, key=_first)
    for run in runs[begin:end]:
        before, rest = _split(each, run.start)
        after = _split(rest, run.stop)[1]
        if len(after) < len(rest):
            if before:
                yield before
            each = after
    if each:
        yield each


def _split(each: range, at: int) -> tuple[range, range]:
    """Return the part of a range below a number, and the rest."""
    count = min(len(each), max(0, -((each.start - at) // each.step)))
    return each[:count], each[count:]


def _thinned(ranges: Sequence[range], other: range) -> list[range]:
    """Return the pieces of ranges without the indices of one with a step."""
    pieces = chain.from_iterable(_between(each, _common(each, other)) for each in ranges)
    left = list(islice(pieces, len(ranges) + _MOST_PIECES))
    if next(pieces, None) is not None:
        raise _too_intricate()
    return left


def _between(each: range, common: range) -> Iterator[range]:
    """Yield the pieces of a range without some of its indices, which have equal distances."""
    if not common:
        yield each
        return
    before, rest = _split(each, common.start)
    inside, after = _split(rest, common[-1] + 1)
    # What stays are the gaps between those that go, or if they are fewer, ranges with their step.
    every = common.step // each.step
    if len(common) <= every:
        between = (inside[at + 1 : at + every] for at in range(0, len(inside) - 1, every))
    else:
        between = (inside[at::every] for at in range(1, every))
    yield from filter(None, (before, *between, after))


def _common(one: range, other: range) -> range:
    """Return the indices that are in both ranges."""
    # The Chinese remainder theorem: their distance is the least common multiple of the steps.
    divisor, distance = gcd(one.step, other.step), other.start - one.start
    if distance % divisor:
        return range(0)
    period = other.step // divisor
    step = one.step * period
    first = one.start + distance // divisor * pow(one.step // divisor, -1, period) % period * one.step
    least = max(one.start, other.start)
    if first < least:
        first += -((first - least) // step) * step
    return range(first, min(one[-1], other[-1]) + 1, step)


def _too_intricate() -> ValueError:
    return ValueError("too many ranges with a step overlap; write them as fewer ranges")
