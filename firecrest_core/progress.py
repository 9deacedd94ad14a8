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

from firecrest_core import arrays
from firecrest_core.models import JobInfo
from firecrest_core.result import ElementResult
from firecrest_core.states import JobState, Phase

_ELEMENT = re.compile(r"^(?P<job>\w+?)_(?:(?P<index>\d+)|\[(?P<waiting>[^\]]*)\])$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a job is.

    :param settled: every row has ended, though rows of expected array elements may still be missing
    :param complete: nothing is missing: if ``settled``, this is the end
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
    working_directory: str = ""
    elements: tuple[ElementResult, ...] = ()
    settled: bool = False
    complete: bool = True

    @property
    def provisional(self) -> bool:
        """The job may go back into the queue."""
        return self.state.provisional or any(element.state.provisional for element in self.elements)


def read(rows: Sequence[JobInfo], job_id: str, indices: Sequence[int] | None = None) -> Progress:
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


def _merged(rows: list[JobInfo]) -> Progress:
    if not rows:
        return Progress(state=JobState.UNKNOWN, complete=False)
    spokesman = _spokesman(rows)
    nodes = [row.nodes for row in rows if row.nodes]
    return Progress(
        state=spokesman.state,
        reason=spokesman.reason,
        exit_code=spokesman.exit_code,
        signal=spokesman.signal,
        cancelled_by=spokesman.cancelled_by,
        elapsed=max((row.elapsed or 0 for row in rows), default=None),
        time_limit=spokesman.time_limit,
        # Before accounting knows the job, sacct calls it "allocation" and knows no directory.
        name=next((row.name for row in rows if row.name != "allocation"), ""),
        nodes=",".join(dict.fromkeys(nodes)),
        node_count=sum(row.node_count for row in rows) or None,
        working_directory=next((row.working_directory for row in rows if row.working_directory), ""),
        settled=all(row.state.ended for row in rows),
    )


def _spokesman(rows: list[JobInfo]) -> JobInfo:
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
) -> Progress:
    whole = _merged(list(rows))
    known = tuple(elements[index] for index in sorted(elements))
    missing = [index for index in indices or () if index not in elements]
    # A raw row beside the elements' rows is one that still runs; alone, and ended, it stands for the array.
    settled = bool(rows) and all(row.state.ended for row in rows)
    state = whole.state
    if settled and known:
        state = _end({element.state for element in known})
    codes = [element.exit_code for element in known if element.exit_code]
    return Progress(
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
        working_directory=whole.working_directory,
        elements=known,
        settled=settled,
        complete=not missing and bool(known),
    )
