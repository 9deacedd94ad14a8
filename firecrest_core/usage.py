"""What a job has used of what it was given: the numbers of its meter, checked, and in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

USAGE_FILE = "usage.json"
"""The file that the meter writes beside the job's claim."""
LARGEST_USAGE_FILE = 4096
"""Bytes."""

_MIB = 1024**2
_GIB = 1024**3
# More than any job has: seconds, bytes, joules.
_MOST = 2.0**60
# The kernel's USER_HZ.
_TICKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUsage:
    """What a job has used on its first node, the batch node. What could not be measured is ``None``, never zero.

    :param elapsed: seconds from the script's start until these numbers were taken
    :param cpu_seconds: CPU time
    :param cpu_complete: whether that is the CPU time of the whole job on the node, with its steps; if not, it is that
        of the script and the programs that it has started itself, without those of ``srun``
    :param cpus: cores that the job has on the node, as the scheduler counts them
    :param memory_peak: bytes, the most at any moment, with the file cache that the kernel counts as the job's
    :param memory_limit: bytes that the job may have on the node
    :param gpus: GPUs of the job on the node
    :param gpu_utilization: how much of the time they worked, 0 to 1, over all of them
    :param gpu_memory_peak: bytes, the most that was seen, of all of them together
    :param gpu_memory: bytes that they have
    :param node_energy: joules that the whole node took meanwhile, also for other jobs on it
    :param nodes: how many nodes the job has; the numbers are those of the first
    """

    elapsed: float
    cpu_seconds: float | None = None
    cpu_complete: bool = False
    cpus: int | None = None
    memory_peak: int | None = None
    memory_limit: int | None = None
    gpus: int | None = None
    gpu_utilization: float | None = None
    gpu_memory_peak: int | None = None
    gpu_memory: int | None = None
    node_energy: float | None = None
    nodes: int | None = None

    @property
    def cpu_utilization(self) -> float | None:
        """How much of its cores' time the job used, 0 to 1; at least so much unless :attr:`cpu_complete`."""
        if self.cpu_seconds is None or not self.cpus or self.elapsed <= 0:
            return None
        return min(1.0, self.cpu_seconds / (self.cpus * self.elapsed))

    def summary(self, elapsed: float | None = None) -> str:
        """Return what was used in words, such as ``used 31 % of 128 cores, 212 of 480 GiB``.

        :param elapsed: how long the job ran, in seconds; if the numbers were taken earlier, the words say when
        """
        parts = [self._cpu_words(), _memory_words(self.memory_peak, self.memory_limit)]
        if self.gpus and self.gpu_utilization is not None:
            parts.append(f"{self.gpu_utilization:.0%} of {_count(self.gpus, 'GPU')}".replace("%", " %"))
            if memory := _memory_words(self.gpu_memory_peak, self.gpu_memory):
                parts.append(f"{memory} of their memory")
        if self.node_energy is not None:
            parts.append(f"{self.node_energy / 3.6e6:.3g} kWh of the whole node")
        words = ", ".join(filter(None, parts))
        if not words:
            return "used an unknown amount: the node does not tell"
        if self.nodes is not None and self.nodes > 1:
            words += f" (batch node, one of {self.nodes})"
        # What the scheduler calls elapsed is in whole seconds, and includes its own work.
        if elapsed is not None and elapsed - self.elapsed > max(5.0, elapsed / 20):
            words += f"; measured after {self.elapsed:.0f} of {elapsed:.0f} s"
        return f"used {words}"

    def _cpu_words(self) -> str | None:
        if self.cpu_seconds is None:
            return None
        at_least = "" if self.cpu_complete else "at least "
        share = self.cpu_utilization
        if share is None or self.cpus is None:
            return f"{at_least}{self.cpu_seconds:.3g} s of CPU time"
        return f"{at_least}{100 * share:.0f} % of {_count(self.cpus, 'core')}"

    def to_dict(self) -> dict[str, Any]:
        """Return the usage as JSON types; :meth:`from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the usage that :meth:`to_dict` wrote.

        :param data: what it returned; fields of later versions are left out
        :raises TypeError: it has another form
        """
        return cls(**{each.name: data[each.name] for each in fields(cls) if each.name in data})


def parse_usage(content: bytes) -> JobUsage | None:
    """Return what a meter has written; ``None`` if it is anything else.

    :param content: of the file, which the job's user may have changed
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("version") != 1:
        return None
    numbers = {name: number for name, value in found.items() if (number := _number(value)) is not None}
    get = numbers.get
    uptime, born = get("uptime"), get("born_ticks")
    if uptime is None or born is None:
        return None
    whole = _scaled(get("cpu_us"), 1e-6)
    whole = _scaled(get("cpu_ns"), 1e-9) if whole is None else whole
    cpus = _whole(get("cpus"))
    limits = [_whole(get("memory_limit")), _whole(_scaled(get("memory_per_node_mib") or None, _MIB))]
    if cpus is not None:
        limits.append(_whole(_scaled(get("memory_per_cpu_mib") or None, _MIB * cpus)))
    energy, before = get("energy_j"), get("energy_j_before")
    gpu_time, busy = get("gpu_time"), get("gpu_busy_percent")
    return JobUsage(
        elapsed=round(max(0.0, uptime - born / _TICKS), 2),
        cpu_seconds=whole if whole is not None else _scaled(get("children_ticks"), 1 / _TICKS),
        cpu_complete=whole is not None,
        cpus=cpus,
        memory_peak=_whole(get("memory_peak")),
        memory_limit=next((limit for limit in limits if limit), None),
        gpus=_whole(get("gpus")),
        gpu_utilization=None if busy is None or not gpu_time else min(1.0, busy / 100 / gpu_time / (get("gpus") or 1)),
        gpu_memory_peak=_whole(_scaled(get("gpu_memory_peak_mib"), _MIB)),
        gpu_memory=_whole(_scaled(get("gpu_memory_mib"), _MIB)),
        node_energy=None if energy is None or before is None or energy < before else energy - before,
        nodes=_whole(get("nodes")),
    )


def _number(value: Any) -> float | None:
    """Return a number that a meter may have written. Without a limit, cgroups tell one that is far above."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value < _MOST else None  # NaN and infinity are not between them


def _scaled(value: float | None, by: float) -> float | None:
    return None if value is None else value * by


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _memory_words(peak: int | None, limit: int | None) -> str | None:
    if peak is None:
        return None
    if limit is None:
        return f"{peak / _GIB:.3g} GiB"
    return f"{peak / _GIB:.3g} of {limit / _GIB:.3g} GiB"
