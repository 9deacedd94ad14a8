"""How a job ended, in a form that survives XComs, artifacts and restarts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from firecrest_core.course import Course
from firecrest_core.diagnosis import describe_exit_code
from firecrest_core.elements import ElementGroup, ElementResult, counts, expand, shorten
from firecrest_core.indices import Indices
from firecrest_core.states import JobState
from firecrest_core.usage import JobUsage

# Characters of the indices of array elements in a message.
_MOST_IN_MESSAGE = 60
# Slurm pads a number to so many characters at most.
_WIDEST = 10
# An array element's index in an output path, perhaps with a width: %a, %4a.
_INDEX = re.compile(r"%(\d*)a")


def index_as_glob(path: str | None) -> str | None:
    """Return the path of an array's output with ``*`` in place of an element's index.

    :param path: with ``%a`` or ``%4a``, as in :class:`JobResult`; any other path stays as it is
    """
    return path and _INDEX.sub("*", path)


def element_path(path: str | None, index: int) -> str | None:
    """Return the path of an array element's output.

    :param path: with ``%a`` or ``%4a``, as in :class:`JobResult`; any other path stays as it is
    :param index: the element's
    """
    return path and _INDEX.sub(lambda width: padded(str(index), width[1]), path)


def duration(seconds: int | float | None) -> str:
    """Format seconds as Slurm does: ``0:00:07``, ``1-02:00:00``, and ``?`` for ``None``."""
    if seconds is None:
        return "?"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02}:{minute:02}:{second:02}" if days else f"{hour}:{minute:02}:{second:02}"


def read_duration(text: str) -> int:
    """Return the seconds that :func:`duration` has formatted.

    :raises ValueError: the text has another form
    """
    days, dash, clock = text.rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    return ((int(days) if dash else 0) * 24 + hours) * 3600 + minutes * 60 + seconds


def padded(number: str, width: str) -> str:
    """Return a number with leading zeros, as Slurm writes it for ``%4j``: in ten characters at most.

    :param number: its digits
    :param width: the digits of the width, or an empty text
    """
    return number.zfill(min(int(width.lstrip("0")[:2] or 0), _WIDEST))


def index_list(indices: Indices) -> str:
    """Return the indices of array elements for a message, as far as they fit into it."""
    shown = indices.shortened(_MOST_IN_MESSAGE)
    return f"{shown}".replace(",", ", ") + (", …" if len(shown) < len(indices) else "")


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
    :param submitted_at: Unix time of the submission; ``None`` for a job that was found
    :param started_at: Unix time of the start on the system's clock; ``None`` if it never ran
    :param ended_at: Unix time of the end on the same clock; ``None`` if the scheduler does not say
    :param elapsed: how long it ran, in seconds; of an array, its longest element
    :param partition: where it ran; empty if the scheduler has not said it, as of a job that has just begun and ended
    :param nodes: the scheduler's node list, for example ``nid[001-004]``
    :param node_count: how many nodes it had; ``None`` for an array
    :param node_seconds: the seconds that its nodes were taken, all of them together, those of an array's elements too
    :param working_dir: absolute path of the working directory on the system
    :param stdout: path of the standard output on the system; ``%a`` stands for an array element's index
    :param stderr: path of the standard error, in the same form
    :param groups: the elements of an array, those that ended alike together and those that failed first; empty for any
        other job. All are counted; of very large arrays, the indices of some are left out.
    :param usage: what it has used, if its meter has written that down
    :param course: the jobs before it and what it was given, if its task has an escalation policy or a chain
    :param fetched: where its files are now, on our side; empty unless the caller has fetched some with the result
    """

    job_id: str
    system: str
    name: str = ""
    state: JobState
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    cancelled_by: int | None = None
    submitted_at: float | None = None
    started_at: int | None = None
    ended_at: int | None = None
    elapsed: int | None = None
    partition: str = ""
    nodes: str = ""
    node_count: int | None = None
    node_seconds: int | None = None
    working_dir: str = ""
    stdout: str | None = None
    stderr: str | None = None
    groups: tuple[ElementGroup, ...] = ()
    usage: JobUsage | None = None
    course: Course | None = None
    fetched: tuple[str, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether the job ended COMPLETED, and the work is done for which others may have run before it."""
        return self.state is JobState.COMPLETED and not self.problem

    @property
    def problem(self) -> str:
        """A sentence: why no other job follows, although the work of the task is not done; empty in any other case."""
        return "" if self.course is None else self.course.problem

    @property
    def node_hours(self) -> float | None:
        """What it cost: nodes times hours, of all elements of an array; ``None`` if the scheduler does not say."""
        return None if self.node_seconds is None else self.node_seconds / 3600

    @property
    def elements(self) -> tuple[ElementResult, ...]:
        """The elements of an array whose indices are known, one by one."""
        return expand(self.groups)

    @property
    def failed_elements(self) -> tuple[ElementResult, ...]:
        """Those of :attr:`elements` that did not end COMPLETED."""
        return expand(group for group in self.groups if group.failed)

    @property
    def failed_indices(self) -> Indices:
        """The indices of :attr:`failed_elements`; as a text in Slurm's form, such as ``3,17-20``."""
        return Indices.joined(group.indices for group in self.groups if group.failed)

    @property
    def element_counts(self) -> dict[JobState, int]:
        """How many elements of an array ended in which state."""
        return counts(self.groups)

    def with_completed(self, indices: Indices) -> JobResult:
        """Return the result with more elements, which an earlier job of the same task has completed.

        :param indices: theirs
        """
        earlier = ElementGroup.of(indices, JobState.COMPLETED, exit_code=0)
        return replace(self, groups=shorten((*self.groups, earlier)))

    @property
    def unrecorded(self) -> Indices:
        """The indices of array elements of which the scheduler has no record, because they never ran."""
        return Indices.joined(group.indices for group in self.groups if not group.recorded)

    @property
    def reported_element(self) -> ElementResult | None:
        """The element of an array whose output is shown: the first that ran and failed, else the first that ran."""
        known = [group for group in self.groups if group.indices]
        if not known:
            return None
        group = min(known, key=lambda group: (not group.recorded, not group.failed, group.indices.first))
        return ElementResult(index=group.indices.first, state=group.state, exit_code=group.exit_code)

    def output_paths(self) -> tuple[str | None, str | None]:
        """Return the paths of standard output and standard error; for an array, those of :attr:`reported_element`."""
        paths = self.stdout, self.stderr
        if self.reported_element is None:
            return paths
        stdout, stderr = (element_path(path, self.reported_element.index) for path in paths)
        return stdout, stderr

    def summary(self) -> str:
        """Return one sentence that says which job ended how."""
        named = f"Job {self.job_id} ({self.name})" if self.name else f"Job {self.job_id}"
        text = f"{named} on {self.system} ended {self.state}"
        if self.cancelled_by is not None:
            text += f" by {'root' if self.cancelled_by == 0 else f'user {self.cancelled_by}'}"
        # Slurm writes exit code 0 for a job that it ended itself: at a limit, by a cancel, after a failed launch.
        completed = self.state is JobState.COMPLETED
        if self.exit_code or (self.exit_code == 0 and completed):
            text += f", {describe_exit_code(self.exit_code)}"
        if self.signal and self.state is not JobState.OUT_OF_MEMORY:  # there it is 125, Slurm's own mark
            text += f", signal {self.signal}"
        if self.reason and not completed:
            text += f", reason {self.reason}"
        if self.elapsed is not None:
            text += f", after {duration(self.elapsed)}"
        if self.nodes:
            text += f" on {self.nodes}"
        if self.groups:
            others = self.element_counts
            total, good = sum(others.values()), others.pop(JobState.COMPLETED, 0)
            text += f"; {good} of {total} array elements COMPLETED"
            for state, count in others.items():
                which = index_list(Indices.joined(group.indices for group in self.groups if group.state is state))
                text += f", {count} {state}" + (f" ({which})" if which else "")
        if self.unrecorded:
            text += (
                f". The scheduler has no record of {index_list(self.unrecorded)}: cancelled while waiting, never ran"
            )
        return text + "."

    def usage_summary(self) -> str:
        """Return what the job has used in words, such as ``used 31 % of 128 cores``; empty if nothing is known."""
        return "" if self.usage is None else self.usage.summary(self.elapsed)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON types; :meth:`from_dict` reads them back."""
        mapping = {each.name: getattr(self, each.name) for each in fields(self)}
        groups = [group.to_dict() for group in self.groups]
        usage = None if self.usage is None else self.usage.to_dict()
        return mapping | {
            "state": self.state.value,
            "groups": groups,
            "usage": usage,
            "course": None if self.course is None else self.course.to_dict(),
            "fetched": list(self.fetched),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JobResult:
        """Return the result that :meth:`to_dict` wrote."""
        groups = tuple(map(ElementGroup.from_dict, data.get("groups", ())))
        usage = None if data.get("usage") is None else JobUsage.from_dict(data["usage"])
        course = None if data.get("course") is None else Course.from_dict(data["course"])
        changes = {"groups": groups, "usage": usage, "course": course, "fetched": tuple(data.get("fetched", ()))}
        return cls(**{**data, "state": JobState(data["state"]), **changes})

    # What Airflow calls for an XCom.
    __version__: ClassVar[int] = 1
    serialize = to_dict

    @staticmethod
    def deserialize(data: Mapping[str, Any], version: int) -> JobResult:
        """Return the result that :meth:`serialize` wrote.

        :param data: what it returned
        :param version: the version of its form
        """
        return JobResult.from_dict(data)
