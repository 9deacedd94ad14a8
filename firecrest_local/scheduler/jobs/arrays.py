"""Job arrays: `0-3`, `1,5,9`, `0-15:4`, `0-99%10`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ArraySpec:
    """The elements of a job array.

    :param indices: the elements' indices, sorted, each once.
    :param throttle: how many elements may run at once; None for all.
    :param step: the step of a range, for SLURM_ARRAY_TASK_STEP.
    """

    indices: tuple[int, ...]
    throttle: int | None = None
    step: int = 1


def parse_array(text: str, max_size: int) -> ArraySpec:
    """Read the value of `--array`.

    :param text: the value.
    :param max_size: indices must be smaller.
    :raises ValueError: Slurm calls this an invalid job array specification.
    """
    body, percent, limit = text.strip().partition("%")
    if percent and not limit.isdigit():
        raise ValueError(f"not a limit: {limit!r}")
    indices: set[int] = set()
    step = 1
    for part in body.strip("[]").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if match is None:
            raise ValueError(f"not an index or a range: {part!r}")
        first, last, by = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or by < 1 or last >= max_size:
            raise ValueError(f"out of range: {part!r}")
        indices.update(range(first, last + 1, by))
        step = by
    return ArraySpec(tuple(sorted(indices)), int(limit) or None if percent else None, step)


def format_indices(indices: Sequence[int], throttle: int | None) -> str:
    """Write the pending elements as Slurm does: `2-3%2`."""
    parts: list[str] = []
    ordered = sorted(indices)
    start = 0
    for end in range(1, len(ordered) + 1):
        if end == len(ordered) or ordered[end] != ordered[end - 1] + 1:
            first, last = ordered[start], ordered[end - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = end
    return ",".join(parts) + (f"%{throttle}" if throttle else "")
