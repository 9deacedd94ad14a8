"""Numbers, and Slurm's forms of nodes, GPUs, time limits and amounts of memory.

Facts: ``--nodes``, ``--gpus``, ``--time`` and ``--mem`` in Slurm's sbatch manual, tried with sbatch 22.05.
"""

from __future__ import annotations

import re
from datetime import timedelta
from numbers import Real
from typing import Any

from firecrest_core.indices import Indices

UNLIMITED = "UNLIMITED"

_WHOLE = re.compile(r"([+-]?\d+)(?:\.0*)?")
_THOUSANDS = re.compile(r"(\d+)[kK]")
_GPUS = re.compile(r"[A-Za-z][\w.-]*:\d+(?:,[A-Za-z][\w.-]*:\d+)*")

# minutes | minutes:seconds | hours:minutes:seconds | days-hours[:minutes[:seconds]]
_CLOCK = re.compile(r"(\d+)(?::(\d+))?(?::(\d+))?")
_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?::(\d+))?")
_MEMORY = re.compile(r"(\d+)([KMGT])?B?", re.IGNORECASE)
_MEBIBYTES = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}


def whole_number(value: Any) -> int | None:
    """Return a whole number that is given as any number or as text, ``None`` if the value is something else.

    :param value: for example ``2``, ``2.0``, ``"2"``, or ``"2.0"``, which templates make of a division
    """
    if isinstance(value, str):
        match = _WHOLE.fullmatch(value.strip())
        return int(match[1]) if match else None
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    if not isinstance(value, Real) or value % 1 != 0:  # of infinity, this is not a number
        return None
    return int(float(value))


def nodes(value: Any) -> int | str:
    """Normalize a number of nodes.

    :param value: a number, or one of Slurm's texts: ``"2"``, ``"1k"`` (1024), ``"2-4"`` (at least 2, at most 4),
        ``"2,4,8"`` and ``"1-15:4"`` (one of these numbers)
    :raises ValueError: the value has another form, a number is below 1, or a range is empty
    """
    text = re.sub(r"\s", "", value) if isinstance(value, str) else value
    if isinstance(text, str):
        text = _THOUSANDS.sub(lambda match: str(int(match[1]) * 1024), text)
    number = whole_number(text)
    if number is None and isinstance(text, str) and {*"-,"} & {*text}:
        if Indices.parse(text).first >= 1:
            return text
    elif number is not None and number >= 1:
        return number
    raise ValueError(f"{value!r} is not a number of nodes, at least 1, such as 2, '2-4', '2,4,8' or '1-15:4'")


def gpus(value: Any) -> int | str:
    """Normalize a number of GPUs.

    :param value: a number, or Slurm's numbers by type: ``"a100:4"``, ``"a100:2,v100:1"``
    :raises ValueError: the value has another form, or is negative
    """
    text = re.sub(r"\s", "", value) if isinstance(value, str) else value
    if isinstance(text, str) and _GPUS.fullmatch(text):
        return text
    number = whole_number(text)
    if number is None or number < 0:
        raise ValueError(f"{value!r} is not a number of GPUs, such as 4, 'a100:4' or 'a100:2,v100:1'")
    return number


def gpu_count(value: int | str | None) -> int | None:
    """Return how many GPUs the normal form of :func:`gpus` asks for; ``None`` for ``None``."""
    if isinstance(value, str):
        return sum(int(part.rpartition(":")[2]) for part in value.split(","))
    return value


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
    if (minutes := whole_number(time_limit)) is not None:
        return minutes * 60
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
    text = amount.strip() if isinstance(amount, str) else amount
    if (mebibytes_given := whole_number(text)) is not None:
        text = str(mebibytes_given)
    if isinstance(text, str) and (match := _MEMORY.fullmatch(text)):
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
