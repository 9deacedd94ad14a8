"""Job arrays: Slurm's index expressions, and their form in PBS.

Facts: ``--array`` in Slurm's sbatch manual, tried with sbatch 22.05; ``-J`` in PBS Professional's qsub manual,
whose range holds at least two indices.
"""

from __future__ import annotations

import re
from itertools import pairwise

_RANGE = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")

# Slurm compiles in 4,000,001 as the largest MaxArraySize. A larger index is a typing error, and to expand it would cost
# gigabytes of memory here.
_LARGEST_INDEX = 4_000_000


def indices(expression: str) -> tuple[int, ...]:
    """Return the indices of an array expression, ascending and without duplicates.

    :param expression: ``"0-3"``, ``"1,5,9"``, ``"0-15:4"`` (every fourth), ``"0-99%10"`` (ten at a time), and
        their combinations such as ``"0-3,8,10-20:5%2"``
    :raises ValueError: sbatch would refuse it
    """
    found: set[int] = set()
    for first, last, step in _ranges(expression):
        found.update(range(first, last + 1, step))
    return tuple(sorted(found))


def throttle(expression: str) -> int | None:
    """Return how many elements may run at a time (the number after ``%``).

    :param expression: as for :func:`indices`
    :returns: ``None`` for no limit
    :raises ValueError: no number follows the ``%``
    """
    _, percent, at_once = _bare(expression).partition("%")
    if not percent:
        return None
    if not at_once.strip().isdecimal():
        raise ValueError(f"{expression!r}: after % comes the number of elements that may run at a time")
    return int(at_once) or None


def pbs_range(expression: str) -> str:
    """Return the array in PBS's form, ``first-last[:step][%at_once]``.

    :param expression: as for :func:`indices`
    :raises ValueError: the indices are not one range with a constant step, or there is only one
    """
    all_indices = indices(expression)
    steps = {after - before for before, after in pairwise(all_indices)}
    if len(steps) != 1:
        raise ValueError(f"{expression!r} is not one range of two or more indices, which is all that PBS knows")
    step, at_once = steps.pop(), throttle(expression)
    text = f"{all_indices[0]}-{all_indices[-1]}"
    return text + (f":{step}" if step > 1 else "") + (f"%{at_once}" if at_once else "")


def _bare(expression: str) -> str:
    # squeue prints the expression in brackets, and sbatch accepts it in that form.
    return expression.strip().removeprefix("[").removesuffix("]")


def _ranges(expression: str) -> list[tuple[int, int, int]]:
    throttle(expression)
    ranges = []
    for part in _bare(expression).partition("%")[0].split(","):
        match = _RANGE.fullmatch(part.strip())
        if not match:
            raise ValueError(
                f"{expression!r} is not an array expression; the forms are '0-3', '1,5,9', '0-15:4', '0-99%10'"
            )
        first, last, step = match.groups()
        low, high, stride = int(first), int(last or first), int(step or 1)
        if high < low or stride < 1:
            raise ValueError(f"{expression!r}: the range {part.strip()!r} is empty")
        if high > _LARGEST_INDEX:
            raise ValueError(f"{expression!r}: {high} is beyond Slurm's largest index")
        ranges.append((low, high, stride))
    return ranges
