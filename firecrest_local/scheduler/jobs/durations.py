"""Slurm's notations for durations and times."""

from __future__ import annotations

import re
import time
from datetime import datetime

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}


def parse_duration(text: str) -> int | None:
    """Read a time limit: `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours[:…]`.

    :returns: seconds; None for no limit (`infinite`, `unlimited`, `-1`, `0`).
    :raises ValueError: the text is none of these.
    """
    if text.lower() in ("infinite", "unlimited", "-1", "0"):
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise ValueError(f"not a duration: {text!r}")
    days, *rest = match.groups()
    numbers = [int(part) for part in rest if part is not None]
    if days is not None:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds


def parse_begin(text: str, now: float | None = None) -> float:
    """Read the value of `--begin` as a Unix time: `now+2hours`, `16:00`, `2030-01-31T10:00`.

    :raises ValueError: the text is none of these.
    """
    moment = time.time() if now is None else now
    if text.lower() == "now":
        return moment
    relative = re.fullmatch(r"now\+(\d+)([a-z]*)", text.lower())
    if relative is not None:
        unit = relative[2].removesuffix("s") or "second"
        if unit not in _UNITS:
            raise ValueError(f"unknown unit in {text!r}")
        return moment + int(relative[1]) * _UNITS[unit]
    clock = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", text)
    if clock is not None:
        hour, minute, second = (int(part or 0) for part in clock.groups())
        at = datetime.fromtimestamp(moment).replace(hour=hour, minute=minute, second=second, microsecond=0)
        return at.timestamp() + (86400 if at.timestamp() < moment else 0)
    return datetime.fromisoformat(text).timestamp()
