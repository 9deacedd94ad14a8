"""How a job ended, in a form that survives XComs, artifacts and restarts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from firecrest_core.diagnosis import describe_exit_code
from firecrest_core.states import JobState

# An array element's index in an output path, perhaps with a width: %a, %4a.
_INDEX = re.compile(r"%(\d*)a")


def duration(seconds: int | float | None) -> str:
    """Format seconds as Slurm does: ``0:00:07``, ``1-02:00:00``, and ``?`` for ``None``."""
    if seconds is None:
        return "?"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02}:{minute:02}:{second:02}" if days else f"{hour}:{minute:02}:{second:02}"


def index_list(indices: Sequence[int]) -> str:
    """Return the indices of array elements for a message, at most ten of them."""
    return ", ".join(map(str, indices[:10])) + (", …" if len(indices) > 10 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementResult:
    """How one element of a job array ended.

    :param index: its index in the array
    :param state: the state in which it ended
    :param exit_code: of the script; ``None`` if the scheduler did not report it
    """

    index: int
    state: JobState
    exit_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """How a job ended.

    Decide by ``state``, never by ``exit_code``: a job that failed to launch has exit code 0.

    :param job_id: the job's id, for example ``57``
    :param system: the system where it ran
    :param name: the user's name for the job
    :param state: the state in which it ended
    :param reason: the scheduler's reason for the state, if it gives one
    :param exit_code: of the script; ``None`` if the scheduler did not report it
    :param signal: the signal that ended the script, 0 for none
    :param cancelled_by: the numeric id of the user that cancelled the job, if the scheduler reports it
    :param elapsed: how long it ran, in seconds
    :param nodes: the scheduler's node list, for example ``nid[001-004]``
    :param node_count: how many nodes it had
    :param working_dir: absolute path of the working directory on the system
    :param stdout: path of the standard output on the system; ``%a`` stands for an array element's index
    :param stderr: path of the standard error, in the same form
    :param elements: one entry for each element of an array, empty for any other job
    :param unrecorded: the indices of array elements of which the scheduler has no record, because they never ran. Their
        entries are CANCELLED.
    """

    job_id: str
    system: str
    name: str = ""
    state: JobState
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    cancelled_by: int | None = None
    elapsed: int | None = None
    nodes: str = ""
    node_count: int | None = None
    working_dir: str = ""
    stdout: str | None = None
    stderr: str | None = None
    elements: tuple[ElementResult, ...] = field(default=())
    unrecorded: tuple[int, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether the job ended COMPLETED."""
        return self.state is JobState.COMPLETED

    @property
    def failed_elements(self) -> tuple[ElementResult, ...]:
        """The elements of an array that did not end COMPLETED."""
        return tuple(element for element in self.elements if element.state is not JobState.COMPLETED)

    @property
    def reported_element(self) -> ElementResult | None:
        """The element of an array whose output is shown: the first that ran and failed, else the first that ran."""
        order = (*self.failed_elements, *self.elements)
        return next(iter(sorted(order, key=lambda element: element.index in self.unrecorded)), None)

    def output_paths(self) -> tuple[str | None, str | None]:
        """Return the paths of standard output and standard error; for an array, those of :attr:`reported_element`."""
        paths = self.stdout, self.stderr
        if self.reported_element is None:
            return paths
        index = str(self.reported_element.index)
        stdout, stderr = (path and _INDEX.sub(lambda width: index.zfill(int(width[1] or 0)), path) for path in paths)
        return stdout, stderr

    def summary(self) -> str:
        """Return one sentence that says which job ended how."""
        named = f"Job {self.job_id} ({self.name})" if self.name else f"Job {self.job_id}"
        text = f"{named} on {self.system} ended {self.state}"
        if self.cancelled_by is not None:
            text += f" by {'root' if self.cancelled_by == 0 else f'user {self.cancelled_by}'}"
        # Slurm writes exit code 0 for a job that it ended itself: at a limit, by a cancel, after a failed launch.
        if self.exit_code or (self.exit_code == 0 and self.succeeded):
            text += f", {describe_exit_code(self.exit_code)}"
        if self.signal and self.state is not JobState.OUT_OF_MEMORY:  # there it is 125, Slurm's own mark
            text += f", signal {self.signal}"
        if self.reason and not self.succeeded:
            text += f", reason {self.reason}"
        if self.elapsed is not None:
            text += f", after {duration(self.elapsed)}"
        if self.nodes:
            text += f" on {self.nodes}"
        if self.elements:
            bad = self.failed_elements
            text += f"; {len(self.elements) - len(bad)} of {len(self.elements)} array elements COMPLETED"
            if bad:
                text += ", not " + ", ".join(f"{one.index} ({one.state})" for one in bad[:10])
                text += ", …" if len(bad) > 10 else ""
        if self.unrecorded:
            text += (
                f". The scheduler has no record of {index_list(self.unrecorded)}: cancelled while waiting, never ran"
            )
        return text + "."

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON types; :meth:`from_dict` reads them back."""
        return asdict(self) | {
            "state": self.state.value,
            "elements": [asdict(one) | {"state": one.state.value} for one in self.elements],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JobResult:
        """Return the result that :meth:`to_dict` wrote."""
        elements = tuple(ElementResult(**{**one, "state": JobState(one["state"])}) for one in data.get("elements", ()))
        unrecorded = tuple(data.get("unrecorded", ()))
        return cls(**{**data, "state": JobState(data["state"]), "elements": elements, "unrecorded": unrecorded})
