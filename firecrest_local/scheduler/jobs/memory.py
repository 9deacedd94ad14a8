"""Amounts of memory as Slurm reads them: `4G`, `500`, `1.5g`."""

from __future__ import annotations

import re

_FACTORS = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def parse_memory(text: str) -> int:
    """Read the value of `--mem`.

    :param text: a number with the unit K, M, G or T; M if it has none.
    :returns: bytes.
    :raises ValueError: Slurm calls this an invalid specification.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"not an amount of memory: {text!r}")
    return int(float(match[1]) * _FACTORS[match[2].upper() or "M"])
