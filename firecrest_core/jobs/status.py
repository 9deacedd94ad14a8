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
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from firecrest_core.api.client import System
from firecrest_core.api.models import JobInfo
from firecrest_core.elements import ElementGroup, ElementResult, expand
from firecrest_core.indices import LARGEST_INDEX, Indices
from firecrest_core.jobs.job import Job
from firecrest_core.spec import arrays
from firecrest_core.states import JobState, Phase

UNRECORDED_GRACE = 300.0
"""Seconds after the end of an array for which rows of its elements may be late. As long as Slurm's ``MinJobAge``."""

_INDEX = re.compile(r"\d{1,7}", re.ASCII)
# Characters of a row's list of indices. Slurm itself cuts lists, at 64 characters by default.
_LONGEST_LIST = 16 * 1024
# Of the nodes of all rows of a job.
_LONGEST_NODES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """The status of a job.

    :param elapsed: seconds since the start
    :param expected_start: Unix time at which the scheduler expects a pending job to start, on the system's clock;
        ``None`` if it does not say
    :param started_at: Unix time of the first start on the system's clock, ``None`` before it
    :param time_limit: seconds
    :param account: the account that pays for it
    :param partition: where it waits or runs
    :param node_seconds: elapsed seconds times nodes, of all rows together; ``None`` if the scheduler does not say
    :param groups: the elements of an array that are known so far, those in the same state together
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
    expected_start: int | None = None
    started_at: int | None = None
    elapsed: int | None = None
    time_limit: int | None = None
    name: str = ""
    account: str = ""
    partition: str = ""
    nodes: str = ""
    node_count: int | None = None
    node_seconds: int | None = None
    working_dir: str = ""
    groups: tuple[ElementGroup, ...] = ()
    unrecorded: Indices = field(default_factory=Indices)
    all_ended: bool = False
    complete: bool = True
    ended_at: int | None = None

    @property
    def provisional(self) -> bool:
        """Whether the scheduler may put the job back into its queue."""
        return self.state.provisional or any(group.state.provisional for group in self.groups)

    @property
    def elements(self) -> tuple[ElementResult, ...]:
        """The elements of an array that are known so far, one by one."""
        return expand(self.groups)

    @property
    def ended_ago(self) -> float:
        """Seconds since the last end, as far as the scheduler says when that was."""
        return 0.0 if self.ended_at is None else max(0.0, time.time() - self.ended_at)

    # What Airflow calls for an XCom.
    __version__: ClassVar[int] = 1

    def serialize(self) -> dict[str, Any]:
        """Return the status as JSON types; :meth:`deserialize` reads them back."""
        mapping = {each.name: getattr(self, each.name) for each in fields(self)}
        groups = [group.to_dict() for group in self.groups]
        return mapping | {"state": self.state.value, "groups": groups, "unrecorded": str(self.unrecorded)}

    @staticmethod
    def deserialize(data: Mapping[str, Any], version: int) -> JobStatus:
        """Return the status that :meth:`serialize` wrote.

        :param data: what it returned
        :param version: the version of its form
        """
        groups = tuple(map(ElementGroup.from_dict, data["groups"]))
        unrecorded = Indices.parse(data["unrecorded"]) if data["unrecorded"] else Indices()
        return JobStatus(**{**data, "state": JobState(data["state"]), "groups": groups, "unrecorded": unrecorded})

    def without_late_rows(self) -> JobStatus:
        """Return the status with each element that has no row counted as cancelled, because none will come any more."""
        if self.complete:
            return self
        cancelled = [ElementGroup.of(self.unrecorded, JobState.CANCELLED, recorded=False)] if self.unrecorded else []
        good = self.state in (JobState.COMPLETED, JobState.COMPLETING)
        return replace(
            self,
            state=JobState.CANCELLED if good else self.state,
            reason=self.reason or "array elements without a record",
            groups=(*self.groups, *cancelled),
            complete=True,
        )


def parse_status(rows: Sequence[JobInfo], job_id: str, expected: Indices | None = None) -> JobStatus:
    """Return the status of one job from the scheduler's rows.

    It takes as long as there are rows, however many elements of an array one of them stands for.

    :param rows: the answer of ``GET jobs/{id}``; rows of other jobs are ignored
    :param job_id: the job's id, for example ``57``
    :param expected: the expected indices, if the job is an array
    """
    if whole := [row for row in rows if row.job_id == f"{job_id}[]"]:
        return _merged(whole)
    try:
        groups = _groups(rows, job_id, expected)
        missing = (expected or Indices()) - Indices.joined(group.indices for group in groups)
    except ValueError:  # no scheduler writes such ranges
        groups, missing = [], expected or Indices()
    if expected is not None or groups:
        return _array(rows, groups, missing)
    own = [row for row in rows if row.job_id == job_id or row.job_id.startswith(f"{job_id}+")]  # heterogeneous: 12+0
    return _merged(own or list(rows))


def _merged(rows: list[JobInfo]) -> JobStatus:
    if not rows:
        return JobStatus(state=JobState.UNKNOWN, complete=False)
    representative = _representative_row(rows)
    nodes = [row.nodes for row in rows if row.nodes]
    pending = representative.state is JobState.PENDING
    return JobStatus(
        state=representative.state,
        reason=_reason(representative) or _unknown_word(representative),
        exit_code=representative.exit_code,
        signal=representative.signal,
        cancelled_by=representative.cancelled_by,
        expected_start=_earliest(row.expected_start for row in rows) if pending else None,
        started_at=_earliest(row.started_at for row in rows),
        elapsed=max((row.elapsed or 0 for row in rows), default=None),
        time_limit=representative.time_limit,
        # Before accounting knows the job, sacct calls it "allocation" and knows no directory.
        name=next((row.name for row in rows if row.name != "allocation"), ""),
        account=next((row.account for row in rows if row.account), ""),
        partition=next((row.partition for row in rows if row.partition), ""),
        nodes=_joined(dict.fromkeys(nodes)),
        node_count=sum(row.node_count for row in rows) or None,
        node_seconds=_node_seconds(rows),
        working_dir=next((row.working_dir for row in rows if row.working_dir), ""),
        all_ended=(all_ended := all(row.state.ended for row in rows)),
        ended_at=max((row.end or 0 for row in rows), default=0) or None if all_ended else None,
    )


def _earliest(times: Iterable[int | None]) -> int | None:
    return min((time for time in times if time is not None), default=None)


def _node_seconds(rows: list[JobInfo]) -> int | None:
    known = [row.node_count * row.elapsed for row in rows if row.node_count and row.elapsed is not None]
    return sum(known) if known else None


def _reason(row: JobInfo) -> str | None:
    """Return why a job waits, or why it ended without having run.

    sacct keeps the last reason for which a job has waited, such as Dependency, also if it has run since.
    """
    return None if row.state.ended and row.nodes else row.reason


def _unknown_word(row: JobInfo) -> str | None:
    return f"state {row.raw_state!r}" if row.state is JobState.UNKNOWN and row.raw_state else None


def _representative_row(rows: list[JobInfo]) -> JobInfo:
    """Return the row that determines the status: one that runs, else one that waits, else one that did not end well."""
    order = {Phase.RUNNING: 0, Phase.WAITING: 1, Phase.ENDED: 2}
    return min(rows, key=lambda row: (order[row.state.phase], row.state is JobState.COMPLETED))


def _joined(nodes: Mapping[str, None]) -> str:
    """Return the nodes of several rows, shortened: each element of a large array has its own."""
    text = ",".join(nodes)
    return text if len(nodes) <= 1 or len(text) <= _LONGEST_NODES else text[:_LONGEST_NODES].rpartition(",")[0] + ",…"


def _groups(rows: Sequence[JobInfo], job_id: str, expected: Indices | None) -> list[ElementGroup]:
    """Return the elements of an array that rows tell of, in groups.

    :raises ValueError: the ranges of rows overlap too much
    """
    alone: dict[int, tuple[JobState, int | None]] = {}
    together: defaultdict[JobState, list[Indices]] = defaultdict(list)
    for row in rows:
        job, _, element = row.job_id.partition("_")
        if job != job_id:
            continue
        if _INDEX.fullmatch(element) and int(element) <= LARGEST_INDEX:
            alone[int(element)] = row.state, row.exit_code
        elif element.startswith("[") and element.endswith("]"):
            together[row.state].append(_listed(element, expected))
    alike: defaultdict[tuple[JobState, int | None], list[int]] = defaultdict(list)
    for index, end in alone.items():
        alike[end].append(index)
    found = [(Indices.of(each), *end) for end, each in alike.items()]
    # The row of the waiting elements may still name one that has a row of its own, which is newer.
    known = Indices.of(alone)
    for state, lists in together.items():
        others = Indices.union(lists) - known
        found.append((others, state, None))
        known |= others
    groups = [
        ElementGroup.of(own, state, exit_code)
        for indices, state, exit_code in found
        if (own := indices if expected is None else indices & expected)
    ]
    return sorted(groups, key=lambda group: group.indices.first)


def _listed(text: str, expected: Indices | None) -> Indices:
    """Return the indices that a row lists between brackets."""
    if len(text) <= _LONGEST_LIST and text.count(":") <= 1:  # Slurm writes a step only for a range alone
        with suppress(ValueError):  # Slurm shortens long lists: "17_[1,5,9,...]"
            return arrays.indices(text)
    return expected or Indices()


def array_end(states: set[JobState]) -> JobState:
    """Return the state of an array whose elements have ended in these states."""
    bad = states - {JobState.COMPLETED}
    if len(bad) <= 1:
        return next(iter(bad), JobState.COMPLETED)
    # If none of these is the job's fault, NODE_FAIL lets the array be resubmitted as well.
    return JobState.NODE_FAIL if all(state.provisional for state in bad) else JobState.FAILED


def _array(rows: Sequence[JobInfo], groups: list[ElementGroup], missing: Indices) -> JobStatus:
    """Return the status of an array.

    :param rows: the scheduler's
    :param groups: the elements that they tell of
    :param missing: the indices of the others
    """
    whole = _merged(list(rows))
    # A row with a raw id is an element that still runs, or has ended and is not known by its index (yet).
    raw = [row for row in rows if row.job_id.isdecimal()]
    complete = len(raw) >= len(missing) and bool(rows)
    if whole.all_ended and len(raw) == len(missing) == 1:
        groups = [*groups, ElementGroup.of(missing, raw[0].state, raw[0].exit_code)]
    state = whole.state
    if whole.all_ended:
        state = array_end({row.state for row in raw} | {group.state for group in groups})
        if state is JobState.COMPLETED and not complete:
            state = JobState.COMPLETING
    codes = [group.exit_code for group in groups if group.exit_code]
    return JobStatus(
        state=state,
        reason=whole.reason,
        exit_code=codes[0] if codes else whole.exit_code,
        signal=whole.signal,
        cancelled_by=whole.cancelled_by if state is JobState.CANCELLED else None,
        expected_start=whole.expected_start if state is JobState.PENDING else None,
        started_at=whole.started_at,
        elapsed=whole.elapsed,
        time_limit=whole.time_limit,
        name=whole.name,
        account=whole.account,
        partition=whole.partition,
        nodes=whole.nodes,
        node_count=None,
        node_seconds=whole.node_seconds,
        working_dir=whole.working_dir,
        groups=tuple(groups),
        unrecorded=Indices() if complete or raw else missing,
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
