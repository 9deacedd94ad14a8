"""The status of one job or array, from the rows of a status answer.

Facts: ``tests/contract/timelines``. While an array runs, ``squeue`` gives raw ids (``17``, ``19``, ``20``) beside
``17_[2-3%2]``. When its elements have ended, ``sacct`` gives ``17_0`` … ``17_3``, some of them late, and for a moment
one row ``17`` may stand for all of them. So an array has ended only when all its expected indices have.

An element that is cancelled while it waits (``scancel 17_3``) leaves no row on Slurm 22.05. At first it looks like an
element whose row is late. So an element counts as cancelled if it has no row :data:`UNRECORDED_GRACE` seconds after all
others have ended. FirecREST's REST mode gives the elements raw ids, and only their number tells whether all are there.

PBS shows an array as one row, ``17[]``. It ends when all elements have ended, and the elements are not listed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from firecrest_core.api.client import System
from firecrest_core.api.models import JobInfo
from firecrest_core.jobs.job import Job
from firecrest_core.result import ElementResult
from firecrest_core.spec import arrays
from firecrest_core.states import JobState, Phase

UNRECORDED_GRACE = 300.0
"""Seconds after the end of an array for which rows of its elements may be late. As long as Slurm's ``MinJobAge``."""

_ELEMENT = re.compile(r"^(?P<job>\w+?)_(?:(?P<index>\d+)|\[(?P<waiting>[^\]]*)\])$")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """The status of a job.

    :param elapsed: seconds since the start
    :param time_limit: seconds
    :param elements: the elements of an array that are known so far
    :param unrecorded: the indices of expected array elements without a row; empty if some rows do not tell their index
    :param all_ended: every row has ended, but rows of expected array elements may not be there yet
    :param complete: rows of all expected array elements are there; with ``all_ended``, the job has ended
    :param ended_at: Unix time of the last end on the system's clock, if every row has ended and the scheduler says when
    """

    state: JobState
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    cancelled_by: int | None = None
    elapsed: int | None = None
    time_limit: int | None = None
    name: str = ""
    nodes: str = ""
    node_count: int | None = None
    working_dir: str = ""
    elements: tuple[ElementResult, ...] = ()
    unrecorded: tuple[int, ...] = ()
    all_ended: bool = False
    complete: bool = True
    ended_at: int | None = None

    @property
    def provisional(self) -> bool:
        """Whether the scheduler may put the job back into its queue."""
        return self.state.provisional or any(element.state.provisional for element in self.elements)

    @property
    def ended_ago(self) -> float:
        """Seconds since the last end, as far as the scheduler says when that was."""
        return 0.0 if self.ended_at is None else max(0.0, time.time() - self.ended_at)

    def without_late_rows(self) -> JobStatus:
        """Return the status with each element that has no row counted as cancelled, because none will come any more."""
        if self.complete:
            return self
        cancelled = [ElementResult(index=index, state=JobState.CANCELLED) for index in self.unrecorded]
        elements = sorted((*self.elements, *cancelled), key=lambda element: element.index)
        good = self.state in (JobState.COMPLETED, JobState.COMPLETING)
        return replace(
            self,
            state=JobState.CANCELLED if good else self.state,
            reason=self.reason or "array elements without a record",
            elements=tuple(elements),
            complete=True,
        )


def parse_status(rows: Sequence[JobInfo], job_id: str, indices: Sequence[int] | None = None) -> JobStatus:
    """Return the status of one job from the scheduler's rows.

    :param rows: the answer of ``GET jobs/{id}``; rows of other jobs are ignored
    :param job_id: the job's id, for example ``57``
    :param indices: the expected indices, if the job is an array
    """
    if whole := [row for row in rows if row.job_id == f"{job_id}[]"]:
        return _merged(whole)
    elements = _elements(rows, job_id, indices)
    if indices is not None or elements:
        return _array(rows, job_id, elements, indices)
    own = [row for row in rows if row.job_id == job_id or row.job_id.startswith(f"{job_id}+")]  # heterogeneous: 12+0
    return _merged(own or list(rows))


def _merged(rows: list[JobInfo]) -> JobStatus:
    if not rows:
        return JobStatus(state=JobState.UNKNOWN, complete=False)
    representative = _representative_row(rows)
    nodes = [row.nodes for row in rows if row.nodes]
    return JobStatus(
        state=representative.state,
        reason=representative.reason or _unknown_word(representative),
        exit_code=representative.exit_code,
        signal=representative.signal,
        cancelled_by=representative.cancelled_by,
        elapsed=max((row.elapsed or 0 for row in rows), default=None),
        time_limit=representative.time_limit,
        # Before accounting knows the job, sacct calls it "allocation" and knows no directory.
        name=next((row.name for row in rows if row.name != "allocation"), ""),
        nodes=",".join(dict.fromkeys(nodes)),
        node_count=sum(row.node_count for row in rows) or None,
        working_dir=next((row.working_dir for row in rows if row.working_dir), ""),
        all_ended=(all_ended := all(row.state.ended for row in rows)),
        ended_at=max((row.end or 0 for row in rows), default=0) or None if all_ended else None,
    )


def _unknown_word(row: JobInfo) -> str | None:
    return f"state {row.raw_state!r}" if row.state is JobState.UNKNOWN and row.raw_state else None


def _representative_row(rows: list[JobInfo]) -> JobInfo:
    """Return the row that determines the status: one that runs, else one that waits, else one that did not end well."""
    order = {Phase.RUNNING: 0, Phase.WAITING: 1, Phase.ENDED: 2}
    return min(rows, key=lambda row: (order[row.state.phase], row.state is JobState.COMPLETED))


def _elements(rows: Sequence[JobInfo], job_id: str, indices: Sequence[int] | None) -> dict[int, ElementResult]:
    found: dict[int, ElementResult] = {}
    # The row of the waiting elements may still name one that has a row of its own. That row, sorted last, is used.
    for row in sorted(rows, key=lambda row: "[" not in row.job_id):
        match = _ELEMENT.match(row.job_id)
        if match is None or match["job"] != job_id:
            continue
        for index in _covered(match, indices):
            found[index] = ElementResult(index=index, state=row.state, exit_code=row.exit_code)
    return found


def _covered(match: re.Match[str], indices: Sequence[int] | None) -> Sequence[int]:
    if match["index"] is not None:
        return (int(match["index"]),)
    try:
        return arrays.indices(match["waiting"])
    except ValueError:  # Slurm shortens long lists: "17_[1,5,9,...]"
        return tuple(indices or ())


def _end(states: set[JobState]) -> JobState:
    """Return the state of an array whose elements have ended in these states."""
    bad = states - {JobState.COMPLETED}
    if len(bad) <= 1:
        return next(iter(bad), JobState.COMPLETED)
    # If none of these is the job's fault, NODE_FAIL lets the array be resubmitted as well.
    return JobState.NODE_FAIL if all(state.provisional for state in bad) else JobState.FAILED


def _array(
    rows: Sequence[JobInfo], job_id: str, elements: dict[int, ElementResult], indices: Sequence[int] | None
) -> JobStatus:
    whole = _merged(list(rows))
    missing = tuple(index for index in indices or () if index not in elements)
    # A row with a raw id is an element that still runs, or has ended and is not known by its index (yet).
    raw = [row for row in rows if row.job_id.isdecimal()]
    complete = len(raw) >= len(missing) and bool(rows)
    if whole.all_ended and len(raw) == len(missing) == 1:
        index = missing[0]
        elements[index] = ElementResult(index=index, state=raw[0].state, exit_code=raw[0].exit_code)
    known = tuple(elements[index] for index in sorted(elements))
    state = whole.state
    if whole.all_ended:
        state = _end({row.state for row in raw} | {element.state for element in known})
        if state is JobState.COMPLETED and not complete:
            state = JobState.COMPLETING
    codes = [element.exit_code for element in known if element.exit_code]
    return JobStatus(
        state=state,
        reason=whole.reason,
        exit_code=codes[0] if codes else whole.exit_code,
        signal=whole.signal,
        cancelled_by=whole.cancelled_by if state is JobState.CANCELLED else None,
        elapsed=whole.elapsed,
        time_limit=whole.time_limit,
        name=whole.name,
        nodes=whole.nodes,
        node_count=None,
        working_dir=whole.working_dir,
        elements=known,
        unrecorded=() if complete or raw else missing,
        all_ended=whole.all_ended,
        complete=complete,
        ended_at=whole.ended_at,
    )


async def read_status(system: System, job: Job) -> JobStatus:
    """Query the status of a job once.

    :param system: where the job is
    :param job: the job
    :raises JobNotFound: the scheduler does not know it (yet)
    """
    status = parse_status(await system.get_job(job.job_id), job.job_id, job.array_indices)
    return status.without_late_rows() if status.all_ended and status.ended_ago > UNRECORDED_GRACE else status
