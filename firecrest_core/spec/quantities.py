"""Time limits and amounts of memory in Slurm's forms.

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
    """Return a time limit in seconds.

    :param time_limit: a number of minutes, a :class:`~datetime.timedelta`, or one of Slurm's texts: ``"30"``
        (minutes), ``"10:00"`` (minutes:seconds), ``"1:30:00"`` (hours:minutes:seconds), ``"2-00"``,
        ``"2-00:00"``, ``"2-00:00:00"`` (days-hours:minutes:seconds), ``"UNLIMITED"``
    :returns: ``None`` for an unlimited time
    :raises ValueError: the limit has another form, or is zero or negative
    """
    total = _seconds(time_limit)
    if total is not None and total <= 0:
        # sbatch takes 0 as "no limit". A 0 that was computed is likely to mean the opposite.
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
    """Format a time limit for Slurm: ``[days-]hours:minutes:seconds``, or ``UNLIMITED``.

    :param total: seconds, ``None`` for unlimited
    """
    if total is None:
        return UNLIMITED
    days, rest = divmod(total, 86400)
    return f"{days}-{clock(rest)}" if days else clock(rest)


def clock(total: int) -> str:
    """Format seconds as ``hours:minutes:seconds``. The hours may exceed 24, because PBS's walltime has no days."""
    return f"{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}"


def memory(amount: int | str) -> str:
    """Normalize an amount of memory to ``<number><unit>``, with one of the units ``K M G T`` (powers of 1024).

    :param amount: ``"4G"``, ``"500M"``, ``"4GB"``, ``"2048"``; a number without a unit is mebibytes, and 0 means all of
        a node's memory
    :raises ValueError: another unit, a fraction, or a negative number
    """
    # bool is an int, but True is not an amount. The pattern does not match its text.
    if isinstance(amount, int | str) and (match := _MEMORY.fullmatch(str(amount).strip())):
        number, unit = match.groups()
        return f"{int(number)}{(unit or 'M').upper()}"
    raise ValueError(
        f"{amount!r} is not an amount of memory; give mebibytes, or a whole number with one of the units "
        "K, M, G, T, such as '4G' or '500M'"
    )


def mebibytes(amount: int | str) -> float:
    """Return an amount of memory in mebibytes.

    :param amount: as for :func:`memory`
    :raises ValueError: as :func:`memory`
    """
    text = memory(amount)
    return int(text[:-1]) * _MEBIBYTES[text[-1]]
