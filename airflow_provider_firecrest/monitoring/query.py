"""Which jobs a viewer asks for, in which order, and the page that answers it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from airflow_provider_firecrest.monitoring.rows import JobRow, JobSums, sums
from firecrest_core.states import JobState, Phase

LARGEST_PAGE = 100


class SortKey(StrEnum):
    """What the table is sorted by. Jobs of which it is unknown come last."""

    SUBMITTED = "submitted"
    STATE = "state"
    NAME = "name"
    JOB_ID = "job_id"
    SYSTEM = "system"
    ACCOUNT = "account"
    PARTITION = "partition"
    NODES = "nodes"
    WAITED = "waited"
    USED = "used"
    EXPECTED_START = "expected_start"
    NODE_HOURS = "node_hours"
    TASK = "task"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Which jobs to show. What is ``None`` or empty does not select.

    :param states: one of these states
    :param phases: one of these phases
    :param system: on this system
    :param account: of this account
    :param partition: in this partition
    :param dag_id: of this DAG
    :param run_id: of this run
    :param task_id: of this task
    :param map_index: of this element of a mapped task
    :param text: each of its words is part of the job's name or id, or of the name of its DAG, run or task
    :param since: submitted at this Unix time or later
    :param sort: the column
    :param descending: the largest or latest first
    :param page: from 1; one behind the last is the last
    :param page_size: rows of a page, at most :data:`LARGEST_PAGE`
    """

    states: frozenset[JobState] = frozenset()
    phases: frozenset[Phase] = frozenset()
    system: str | None = None
    account: str | None = None
    partition: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    text: str = ""
    since: float | None = None
    sort: SortKey = SortKey.SUBMITTED
    descending: bool = True
    page: int = 1
    page_size: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the filters offer: the values of all jobs that the viewer may see, in order."""

    states: tuple[JobState, ...]
    systems: tuple[str, ...]
    accounts: tuple[str, ...]
    partitions: tuple[str, ...]
    dag_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """A page of the table.

    :param rows: the jobs of this page
    :param total: how many jobs the query selects
    :param page: the number of this page, from 1
    :param pages: how many pages there are, at least 1
    :param sums: over all jobs that the query selects
    :param month: over the jobs of the current calendar month (UTC) of all DAGs, or of the DAG that the query names
    :param choices: what the filters offer
    :param complete: all jobs of the last 31 days are known; ``False`` while the API server still reads them
    :param truncated: there are more jobs than the table takes, and the oldest are left out
    :param now: Unix time of the answer
    """

    rows: tuple[JobRow, ...]
    total: int
    page: int
    pages: int
    sums: JobSums
    month: JobSums
    choices: Choices
    complete: bool
    truncated: bool
    now: float


@dataclass(frozen=True, slots=True)
class Selection:
    """All jobs that a query selects, in order, and what is said of them."""

    rows: tuple[JobRow, ...]
    sums: JobSums
    month: JobSums
    choices: Choices


def select(rows: Iterable[JobRow], query: JobQuery, readable: Collection[str], now: float) -> Selection:
    """Select, sort and sum up jobs.

    :param rows: all jobs, the newest first
    :param query: which of them to take
    :param readable: the DAGs that the viewer may read
    :param now: Unix time
    """
    visible = [row for row in rows if row.dag_id in readable]
    of_dag = visible if query.dag_id is None else [row for row in visible if row.dag_id == query.dag_id]
    begin = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
    chosen = _sort([row for row in of_dag if _matches(row, query)], query, now)
    month = sums(row for row in of_dag if (row.snapshot.ended_at or row.submitted_at) >= begin)
    return Selection(tuple(chosen), sums(chosen), month, _choices(visible))


def page_of(selection: Selection, query: JobQuery, *, complete: bool, truncated: bool, now: float) -> JobPage:
    """Return the page that a query asks for.

    :param selection: what the query selects
    :param query: the query
    :param complete: as in :class:`JobPage`
    :param truncated: as in :class:`JobPage`
    :param now: Unix time
    """
    size = min(max(1, query.page_size), LARGEST_PAGE)
    pages = max(1, -(-len(selection.rows) // size))
    page = min(max(1, query.page), pages)
    return JobPage(
        rows=selection.rows[(page - 1) * size : page * size],
        total=len(selection.rows),
        page=page,
        pages=pages,
        sums=selection.sums,
        month=selection.month,
        choices=selection.choices,
        complete=complete,
        truncated=truncated,
        now=now,
    )


def _matches(row: JobRow, query: JobQuery) -> bool:
    job = row.snapshot
    return (
        (query.run_id is None or row.run_id == query.run_id)
        and (query.task_id is None or row.task_id == query.task_id)
        and (query.map_index is None or row.map_index == query.map_index)
        and (not query.system or job.system == query.system)
        and (not query.account or job.account == query.account)
        and (not query.partition or job.partition == query.partition)
        and (not query.states or job.state in query.states)
        and (not query.phases or job.state.phase in query.phases)
        and (query.since is None or row.submitted_at >= query.since)
        and (not query.text or _has_words(row, query.text))
    )


def _has_words(row: JobRow, text: str) -> bool:
    job = row.snapshot
    where = "\n".join((job.name, job.job_id, row.dag_id, row.run_id, row.task_id)).casefold()
    return all(word in where for word in text.casefold().split())


def _sort(rows: list[JobRow], query: JobQuery, now: float) -> list[JobRow]:
    if query.sort is SortKey.SUBMITTED:
        return sorted(rows, key=lambda row: row.submitted_at, reverse=query.descending)
    value = _VALUES[query.sort]
    known = [(key, row) for row in rows if (key := value(row, now)) not in (None, "")]
    unknown = [row for row in rows if value(row, now) in (None, "")]
    known.sort(key=lambda pair: pair[0], reverse=query.descending)
    return [row for _, row in known] + unknown


_VALUES: dict[SortKey, Callable[[JobRow, float], Any]] = {
    SortKey.STATE: lambda row, now: row.snapshot.state.value,
    SortKey.NAME: lambda row, now: row.snapshot.name.casefold(),
    SortKey.JOB_ID: lambda row, now: (len(row.snapshot.job_id), row.snapshot.job_id),  # ids are numbers
    SortKey.SYSTEM: lambda row, now: row.snapshot.system,
    SortKey.ACCOUNT: lambda row, now: row.snapshot.account,
    SortKey.PARTITION: lambda row, now: row.snapshot.partition,
    SortKey.NODES: lambda row, now: row.snapshot.node_count,
    SortKey.WAITED: lambda row, now: row.waited(now),
    SortKey.USED: lambda row, now: row.used_fraction(now),
    SortKey.EXPECTED_START: lambda row, now: row.snapshot.expected_start,
    SortKey.NODE_HOURS: lambda row, now: row.snapshot.node_hours,
    SortKey.TASK: lambda row, now: (row.dag_id, row.task_id, row.map_index),
}


def _choices(rows: list[JobRow]) -> Choices:
    jobs = [row.snapshot for row in rows]
    return Choices(
        states=tuple(sorted({job.state for job in jobs})),
        systems=_words(job.system for job in jobs),
        accounts=_words(job.account for job in jobs),
        partitions=_words(job.partition for job in jobs),
        dag_ids=_words(row.dag_id for row in rows),
    )


def _words(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if value}))
