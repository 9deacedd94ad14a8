"""Checking a case that has ended, from what its payloads have written and the list of jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.campaign_kills.case_run import CaseResult

#: What must not happen.
KINDS = ("doubled", "orphaned", "lost", "repeated")


@dataclass(frozen=True)
class Violation:
    """Something that must not happen.

    :param kind: ``doubled``: two payloads of a task, or of an element, at the same time; ``orphaned``: a job that waits
        or runs although the task has ended or was cancelled; ``lost``: a task that did not come to its end;
        ``repeated``: a step that a checkpoint had, or a payload after the one that finished the work
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Line:
    """A line that a payload has written.

    :param event: ``start``, ``beside``, ``step``, ``checkpoint``, ``finished`` or ``end``
    :param job: the job's id; an array's for all of its elements
    :param element: the index in an array; else ``-``
    """

    at: float
    event: str
    job: str
    element: str
    pid: str
    detail: str

    @classmethod
    def parse(cls, line: str) -> Line:
        """Read a line of the payloads' log."""
        at, event, job, element, pid, detail = line.split()
        return cls(float(at), event, job, element, pid, detail)

    def __str__(self) -> str:
        return f"{self.event} {self.detail} of job {self.job}[{self.element}] at {self.at:.3f}"


def read_log(result: CaseResult) -> list[Line]:
    """Return what a case's payloads have written, in its order."""
    if not result.log.exists():
        return []
    return [Line.parse(line) for line in result.log.read_text().splitlines()]


def check(result: CaseResult) -> list[Violation]:
    """Find all violations in a case."""
    lines = read_log(result)
    by_element = {element: [line for line in lines if line.element == element] for element in result.case.elements}
    found = [*_orphaned(result, lines), *_lost(result, by_element)]
    for of_element in by_element.values():
        found += [*_doubled(of_element), *_repeated(result, of_element)]
    return found


def check_afterwards(result: CaseResult) -> list[Violation]:
    """Find what has still run after the end of a case."""
    later = result.log.read_text()[result.log_size :].splitlines() if result.log.exists() else []
    return [Violation("orphaned", f"written after the end: {line}") for line in later]


def _doubled(lines: Sequence[Line]) -> Iterator[Violation]:
    began: list[str] = []
    for line in lines:
        if line.event == "beside":
            yield Violation("doubled", f"job {line.job} found the payload of job {line.detail} alive: {line}")
        elif line.event == "start":
            began.append(line.pid)
        elif line.pid != began[-1]:
            yield Violation("doubled", f"written after a later payload has begun: {line}")


def _repeated(result: CaseResult, lines: Sequence[Line]) -> Iterator[Violation]:
    newest, finished = 0, None
    for line in lines:
        if line.event == "start" and finished is not None:
            yield Violation("repeated", f"{line}, although the work was done: {finished}")
        elif line.event == "step" and int(line.detail) <= newest:
            yield Violation("repeated", f"{line}, although checkpoint {newest} was there")
        elif line.event == "checkpoint":
            newest = max(newest, int(line.detail))
        elif line.event == "finished" and _state(result, line) == "COMPLETED":
            finished = line  # not if its time limit has come meanwhile


def _orphaned(result: CaseResult, lines: Sequence[Line]) -> Iterator[Violation]:
    for row in result.live:
        yield Violation("orphaned", f"job {row.job_id} is {row.state} after the end of the task")
    if result.cancelled_at is None:
        return
    for line in lines:
        # What was cancelled may still write while it is stopped.
        if line.at > result.cancelled_at and not _state(result, line).startswith("CANCELLED"):
            yield Violation("orphaned", f"written after the task was cancelled: {line}")


def _lost(result: CaseResult, by_element: dict[str, list[Line]]) -> Iterator[Violation]:
    if result.hung:
        yield Violation("lost", "a process did not end")
    if not result.outcome:
        yield Violation("lost", "no process has reported the end")
        return
    finished = [any(line.event == "finished" for line in lines) for lines in by_element.values()]
    reported = f"reported {result.outcome} {result.problem}"
    if result.outcome == "COMPLETED" and not result.problem:
        if not all(finished):
            yield Violation("lost", f"{reported}, but the work is not done")
        markers = [f"run-{element}/work.done" for element in by_element] if result.case.kind.is_array else ["work.done"]
        if result.case.kind.is_chain and not all((result.folder / marker).exists() for marker in markers):
            yield Violation("lost", f"{reported}, but there is no marker")
    elif not result.cancelled:
        yield Violation("lost", f"{reported} of a task that nobody has cancelled")


def _state(result: CaseResult, line: Line) -> str:
    """Return how the job ended that has written a line."""
    own = line.job if line.element == "-" else f"{line.job}_{line.element}"
    return next((row.state for row in result.jobs if row.job_id == own), "")
