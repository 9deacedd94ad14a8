"""Job arrays: Slurm's index expressions, and their form in PBS.

Facts: ``--array`` in Slurm's sbatch manual, tried with sbatch 22.05; ``-J`` in PBS Professional's qsub manual,
whose range holds at least two indices.
"""

from __future__ import annotations

from firecrest_core.indices import Indices


def indices(expression: str) -> Indices:
    """Return the indices of an array expression.

    :param expression: ``"0-3"``, ``"1,5,9"``, ``"0-15:4"`` (every fourth), ``"0-99%10"`` (ten at a time), and
        their combinations such as ``"0-3,8,10-20:5%2"``
    :raises ValueError: sbatch would refuse it
    """
    throttle(expression)
    found = _bare(expression).partition("%")[0]
    try:
        if not found.strip():
            raise ValueError("it names no index")
        return Indices.parse(found)
    except ValueError as error:
        raise ValueError(
            f"{expression!r} is not an array expression: {error}. The forms are '0-3', '1,5,9', '0-15:4', '0-99%10'"
        ) from None


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
    found, at_once = indices(expression), throttle(expression)
    step, rest = divmod(found.last - found.first, len(found) - 1) if len(found) > 1 else (0, 1)
    if rest or found != Indices([range(found.first, found.last + 1, step)]):
        raise ValueError(f"{expression!r} is not one range of two or more indices, which is all that PBS knows")
    text = f"{found.first}-{found.last}"
    return text + (f":{step}" if step > 1 else "") + (f"%{at_once}" if at_once else "")


def _bare(expression: str) -> str:
    # squeue prints the expression in brackets, and sbatch accepts it in that form.
    return expression.strip().removeprefix("[").removesuffix("]")
