"""The status of one job or array, from the rows of a status answer.

Facts: ``tests/contract/timelines``. While an array runs, ``squeue`` gives raw ids (``17``, ``19``, ``20``) beside
``17_[2-3%2]``. When its elements have ended, ``sacct`` gives ``17_0`` … ``17_3``, some of them late, and for a moment
one row ``17`` may stand for all of them. So an array has ended only when all its expected indices have.

PBS shows an array as one row, ``17[]``. It ends when all elements have ended, and the elements are not listed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from firecrest_core.api.client import System
from firecrest_core.api.models import JobInfo
from firecrest_core.jobs.job import Job
from firecrest_core.result import ElementResult
from firecrest_core.spec import arrays
from firecrest_core.states import JobState, Phase

_ELEMENT = re.compile(r"^(?P<job>\w+?)_(?:(?P<index>\d+)|\[(?P<waiting>[^\]]*)\])$")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """The status of a job.

    :param elapsed: seconds since the start
    :param time_limit: seconds
    :param elements: the elements of an array that are known so far
    :param all_ended: every row has ended, but rows of expected array elements may not be there yet
    :param complete: rows of all expected array elements are there; with ``all_ended``, the job has ended
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
    all_ended: bool = False
    complete: bool = True

    @property
    def provisional(self) -> bool:
        """Whether the scheduler may put the job back into its queue."""
        return self.state.provisional or any(element.state.provisional for element in self.elements)


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
        reason=representative.reason,
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
        all_ended=all(row.state.ended for row in rows),
    )


def _representative_row(rows: list[JobInfo]) -> JobInfo:
    """Return the row that determines the status: one that runs, else one that waits, else one that did not end well."""
    order = {Phase.RUNNING: 0, Phase.WAITING: 1, Phase.ENDED: 2}
    return min(rows, key=lambda row: (order[row.state.phase], row.state is JobState.COMPLETED))


def _elements(rows: Sequence[JobInfo], job_id: str, indices: Sequence[int] | None) -> dict[int, ElementResult]:
    found: dict[int, ElementResult] = {}
    for row in rows:
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
    known = tuple(elements[index] for index in sorted(elements))
    missing = [index for index in indices or () if index not in elements]
    # A row with a raw id beside the elements' rows is an element that still runs. A single one that has ended stands
    # for the whole array.
    all_ended = bool(rows) and all(row.state.ended for row in rows)
    state = whole.state
    if all_ended and known:
        state = _end({element.state for element in known})
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
        all_ended=all_ended,
        complete=not missing and bool(known),
    )


async def read_status(system: System, job: Job) -> JobStatus:
    """Query the status of a job once.

    :param system: where the job is
    :param job: the job
    :raises JobNotFound: the scheduler does not know it (yet)
    """
    return parse_status(await system.get_job(job.job_id), job.job_id, job.array_indices)
