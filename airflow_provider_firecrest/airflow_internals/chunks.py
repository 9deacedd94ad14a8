"""Parts of a query: databases limit the variables of a statement."""

from __future__ import annotations

from collections.abc import Collection, Iterator

_CHUNK = 500


def chunks(numbers: Collection[int]) -> Iterator[list[int]]:
    """Return numbers of rows in parts, each for one query, in their order.

    :param numbers: the numbers
    """
    ordered = sorted(numbers)
    for at in range(0, len(ordered), _CHUNK):
        yield ordered[at : at + _CHUNK]
