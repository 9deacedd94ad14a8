"""The metrics of a training: what a job writes to a file as it goes, one JSON object a line.

A line such as ``{"step": 100, "loss": 0.31, "accuracy": 0.9}`` gives each of its numbers to the series of its name, at
that step. Most frameworks can write such lines. What is no number is left out, and a line that is no JSON object is
counted. NaN and infinities are kept apart: they say that a training has diverged, and no plot can show them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

STEPS = ("step", "global_step", "iteration", "epoch")
"""Names of the number that counts the progress, the first that a line has. Without one, its lines are counted."""

# What is kept of hostile or huge files: an XCom and a page must bear it.
_MOST_SERIES = 20
_MOST_POINTS = 100
_LONGEST_NAME = 80
_LONGEST_LINE = 64 * 1024


@dataclass(slots=True)
class Series:
    """The values of one name.

    A training that goes back, to a checkpoint for example, replaces what it had reached.

    :param points: (step, value), at most about 100, in the order of their steps: of longer ones, evenly spaced ones and
        the last
    :param last: the last value as it was written, also NaN or infinite; ``None`` before the first
    :param not_finite: how many values were NaN or infinite
    """

    points: list[tuple[float, float]] = field(default_factory=list)
    last: float | None = None
    not_finite: int = 0
    _every: int = 1
    _seen: int = 0

    def add(self, step: float, value: float) -> None:
        """Add a value."""
        self.last = value
        if not math.isfinite(value):
            self.not_finite += 1
            return
        while self.points and self.points[-1][0] > step:
            self.points.pop()
            self._seen = max(0, len(self.points) - 1) * self._every + bool(self.points)
        # The last point is always there, although the next one may replace it.
        if self.points and (self._seen - 1) % self._every:
            self.points.pop()
        self.points.append((step, value))
        self._seen += 1
        if len(self.points) > _MOST_POINTS:
            self.points = self.points[::2]
            self._every *= 2


@dataclass(frozen=True, slots=True)
class MetricRow:
    """The numbers of one line.

    :param line: its number in the file, from 1
    :param step: how far the training was
    :param values: by name, also NaN and infinities
    """

    line: int
    step: float
    values: Mapping[str, float]


@dataclass(slots=True)
class Metrics:
    """What was read of a metrics file so far.

    :param series: by name, in the order of their first values; at most twenty
    :param lines: how many lines were read
    :param unreadable: how many of them are no JSON objects
    :param left_out: whether there were more than twenty names
    """

    series: dict[str, Series] = field(default_factory=dict)
    lines: int = 0
    unreadable: int = 0
    left_out: bool = False

    def add_lines(self, lines: Iterable[str]) -> list[MetricRow]:
        """Read whole lines of the file.

        :param lines: in the order of the file
        :returns: a row for each line that has numbers
        """
        return [row for line in lines if (row := self._add(line))]

    def _add(self, line: str) -> MetricRow | None:
        self.lines += 1
        if not line.strip():
            return None
        try:
            read = json.loads(line) if len(line) <= _LONGEST_LINE else None
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            self.unreadable += 1
            return None
        numbers = {name: number for name, value in read.items() if (number := _number(value)) is not None}
        counter = next((name for name in STEPS if math.isfinite(numbers.get(name, math.nan))), None)
        step = numbers.pop(counter) if counter else float(self.lines)
        for name, number in numbers.items():
            self._of(name).add(step, number)
        return MetricRow(self.lines, step, numbers) if numbers else None

    def _of(self, name: str) -> Series:
        # A log and a page show it.
        name = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in name[:_LONGEST_NAME])
        if name not in self.series:
            if len(self.series) >= _MOST_SERIES:
                self.left_out = True
                return Series()
            self.series[name] = Series()
        return self.series[name]

    def summary(self) -> str:
        """Return the last values in a line, such as ``loss 0.31, accuracy 0.9 (step 100)``."""
        values = [f"{name} {one.last:.6g}" for name, one in self.series.items() if one.last is not None]
        steps = [one.points[-1][0] for one in self.series.values() if one.points]
        return ", ".join(values) + (f" (step {max(steps):.12g})" if values and steps else "")

    def remarks(self) -> list[str]:
        """Return sentences on what no curve shows."""
        said = [
            f"{one.not_finite} of the values of {name} are NaN or infinite."
            for name, one in self.series.items()
            if one.not_finite
        ]
        if self.unreadable:
            said.append(f"{self.unreadable} of {self.lines} lines are no JSON objects.")
        if self.left_out:
            said.append(f"There are more than {_MOST_SERIES} names. The others are left out.")
        return said

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as JSON types, without NaN and infinities, which JSON does not know."""
        return {
            "series": {
                name: {
                    "points": [list(point) for point in one.points],
                    "last": one.last if one.last is not None and math.isfinite(one.last) else None,
                    "not_finite": one.not_finite,
                }
                for name, one in self.series.items()
            },
            "lines": self.lines,
            "unreadable": self.unreadable,
            "left_out": self.left_out,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the metrics that :meth:`to_dict` wrote, to be shown. A last value that was not finite is NaN.

        :param data: what it returned
        :raises AttributeError, KeyError, TypeError, ValueError: it has another form
        """
        series = {}
        for name, one in list(data["series"].items())[:_MOST_SERIES]:
            points = [(float(step), float(value)) for step, value in one["points"][-_MOST_POINTS - 1 :]]
            if not all(map(math.isfinite, (number for point in points for number in point))):
                raise ValueError(f"a point of {name[:_LONGEST_NAME]!r} is not finite")
            last = math.nan if one["last"] is None else float(one["last"])
            series[name[:_LONGEST_NAME]] = Series(points, last, int(one["not_finite"]))
        return cls(series, int(data["lines"]), int(data["unreadable"]), bool(data["left_out"]))


def _number(value: object) -> float | None:
    if isinstance(value, str) and value.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return float(value)  # how those write it who keep to JSON
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
