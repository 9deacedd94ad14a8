"""What the rows of a status answer say of one job, arrays included.

Facts: ``tests/contract/timelines``. While an array runs, ``squeue`` gives raw ids (``17``, ``19``, ``20``) beside
``17_[2-3%2]``; when its elements have ended, ``sacct`` gives ``17_0`` … ``17_3``, some of them late, and one row
``17`` may stand for all of them for a moment. The end of an array is known only against its expected indices.

PBS shows an array as one row, ``17[]``, which ends when all of its elements have; of them it says nothing.
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
    """Where a job is.

    :param all_ended: every row has ended, though rows of expected array elements may still be missing
    :param complete: nothing is missing: if ``all_ended``, this is the end
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
        """The job may go back into the queue."""
        return self.state.provisional or any(element.state.provisional for element in self.elements)


def parse_status(rows: Sequence[JobInfo], job_id: str, indices: Sequence[int] | None = None) -> JobStatus:
    """Judge the rows that the scheduler gave for one job.

    :param rows: the answer of ``GET jobs/{id}``; rows of other jobs in a list are passed over
    :param indices: the expected indices where the job is an array
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
    """The row that says most: one that runs, else one that waits, else one that ended badly."""
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
    except ValueError:  # Slurm cuts long lists short: "17_[1,5,9,...]"
        return tuple(indices or ())


def _end(states: set[JobState]) -> JobState:
    """How an array has ended whose elements have ended so."""
    bad = states - {JobState.COMPLETED}
    if len(bad) <= 1:
        return next(iter(bad), JobState.COMPLETED)
    # None of these is the job's fault, so the array may run again, too: it has lost its nodes.
    return JobState.NODE_FAIL if all(state.provisional for state in bad) else JobState.FAILED


def _array(
    rows: Sequence[JobInfo], job_id: str, elements: dict[int, ElementResult], indices: Sequence[int] | None
) -> JobStatus:
    whole = _merged(list(rows))
    known = tuple(elements[index] for index in sorted(elements))
    missing = [index for index in indices or () if index not in elements]
    # A raw row beside the elements' rows is one that still runs; alone, and ended, it stands for the array.
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
    """Ask once where a job is.

    :raises JobNotFound: the scheduler does not know it (yet)
    """
    return parse_status(await system.get_job(job.job_id), job.job_id, job.array_indices)
