"""Time limits and amounts of memory, in the forms that Slurm's users write.

Facts: ``--time`` and ``--mem`` in Slurm's sbatch manual, tried with sbatch 22.05.
"""

from __future__ import annotations

import re
from datetime import timedelta

UNLIMITED = "UNLIMITED"

# minutes | minutes:seconds | hours:minutes:seconds | days-hours[:minutes[:seconds]]
_CLOCK = re.compile(r"(\d+)(?::(\d+))?(?::(\d+))?")
_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?::(\d+))?")
_MEMORY = re.compile(r"(\d+)([KMGT])?B?", re.IGNORECASE)
_MEBIBYTES = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}


def seconds(time_limit: int | str | timedelta) -> int | None:
    """The length of a time limit in seconds; ``None`` when it is unlimited.

    :param time_limit: a number of minutes, a :class:`~datetime.timedelta`, or one of Slurm's texts: ``"30"``
        (minutes), ``"10:00"`` (minutes:seconds), ``"1:30:00"`` (hours:minutes:seconds), ``"2-00"``,
        ``"2-00:00"``, ``"2-00:00:00"`` (days-hours:minutes:seconds), ``"UNLIMITED"``
    :raises ValueError: for any other form, and for nothing or less
    """
    total = _seconds(time_limit)
    if total is not None and total <= 0:
        # To sbatch, 0 means "no limit": the opposite of what a computed 0 is likely to mean.
        raise ValueError(f"{time_limit!r} is no time at all; for no limit say {UNLIMITED!r}")
    return total


def _seconds(time_limit: int | str | timedelta) -> int | None:
    if isinstance(time_limit, timedelta):
        return -int(-time_limit.total_seconds() // 1)
    if isinstance(time_limit, int) and not isinstance(time_limit, bool):
        return time_limit * 60
    if isinstance(time_limit, str):
        text = time_limit.strip()
        if text.upper() in (UNLIMITED, "INFINITE"):
            return None
        if match := _DAYS.fullmatch(text):
            days, hours, minutes, rest = (int(group or 0) for group in match.groups())
            return ((days * 24 + hours) * 60 + minutes) * 60 + rest
        if match := _CLOCK.fullmatch(text):
            first, second, third = match.groups()
            if third is not None:
                return (int(first) * 60 + int(second)) * 60 + int(third)
            return int(first) * 60 + int(second or 0)
    raise ValueError(
        f"{time_limit!r} is not a time limit; give minutes, a timedelta, or a text such as "
        "'30' (minutes), '10:00' (minutes:seconds), '1:30:00' or '2-00:00:00'"
    )


def slurm_time(total: int | None) -> str:
    """``[days-]hours:minutes:seconds``, or ``UNLIMITED``."""
    if total is None:
        return UNLIMITED
    days, rest = divmod(total, 86400)
    return f"{days}-{clock(rest)}" if days else clock(rest)


def clock(total: int) -> str:
    """``hours:minutes:seconds`` with as many hours as it takes: PBS's walltime knows no days."""
    return f"{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}"


def memory(amount: int | str) -> str:
    """An amount of memory as ``<number><unit>``, the unit one of ``K M G T`` (powers of 1024, as in Slurm).

    :param amount: ``"4G"``, ``"500M"``, ``"4GB"``, ``"2048"``; a number alone is mebibytes, 0 is all that a
        node has
    :raises ValueError: for another unit, a fraction, or less than nothing
    """
    # bool is an int, but True is no amount: the pattern refuses its text.
    if isinstance(amount, int | str) and (match := _MEMORY.fullmatch(str(amount).strip())):
        number, unit = match.groups()
        return f"{int(number)}{(unit or 'M').upper()}"
    raise ValueError(
        f"{amount!r} is not an amount of memory; give mebibytes, or a whole number with one of the units "
        "K, M, G, T, such as '4G' or '500M'"
    )


def mebibytes(amount: int | str) -> float:
    """The amount that :func:`memory` reads, in mebibytes."""
    text = memory(amount)
    return int(text[:-1]) * _MEBIBYTES[text[-1]]
