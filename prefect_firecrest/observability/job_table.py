"""The table of a flow run's jobs, an artifact: where each is, what it has used, where one sees more of it."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from firecrest_core.elements import counts_in_words
from firecrest_core.result import JobResult, duration, read_duration
from firecrest_core.states import JobState
from prefect_firecrest.observability import markdown
from prefect_firecrest.observability.artifacts import Artifact
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.status import JobStatus

_MOST_ROWS = 500
# Far more flow runs than a process has under way.
_MOST_TABLES = 100
# The table's key.
_TABLE = "firecrest-jobs"
# How a row shows a time.
_TIME = "%Y-%m-%d %H:%M UTC"
# Columns that only a table with something in them has.
_OPTIONAL = ("Metrics", "Page")


@dataclass(frozen=True)
class Row:
    """A job in the table.

    :param expected_start: when the scheduler expects it to start while it waits, to the minute
    :param elements: how many elements of an array are in which state, in words
    :param node_hours: what it has cost so far, all elements of an array together; ``None`` if that is unknown
    :param used: what it has used of what it was given, in words, once it has ended
    :param metrics: the last values of its metrics, with their curves
    :param page: where the centre shows it
    :param link: where Prefect shows the run that waits for it
    """

    job_id: str
    name: str
    system: str
    state: JobState
    reason: str | None = None
    elements: str = ""
    expected_start: datetime | None = None
    nodes: str = ""
    elapsed: int | None = None
    node_hours: float | None = None
    used: str = ""
    metrics: str = ""
    page: str | None = None
    link: str | None = None

    @classmethod
    def of(
        cls, job: Job | JobResult, status: JobStatus | JobResult, link: str | None = None, page: str | None = None
    ) -> Row:
        """Return the row of a job (or of its result) with this status."""
        return cls(
            job_id=job.job_id,
            name=job.name or status.name,
            system=job.system,
            state=status.state,
            reason=status.reason,
            elements=counts_in_words(status.groups),
            expected_start=None if isinstance(status, JobResult) else _minute(status.expected_start),
            nodes=status.nodes,
            elapsed=status.elapsed,
            node_hours=None if status.node_seconds is None else status.node_seconds / 3600,
            used=status.usage_summary().removeprefix("used ") if isinstance(status, JobResult) else "",
            page=page,
            link=link,
        )

    @classmethod
    def read(cls, cells: Mapping[str, str]) -> Self:
        """Return the row that is shown as these cells.

        :raises ValueError: no row is shown so
        """
        texts = {name: markdown.read_cell(cells[name]) for name in ("Job", "Name", "System", "State", "Nodes", "Used")}
        word, _, remark = texts["State"].partition(" ")
        state, remark = JobState(word), remark.strip("()")
        elapsed = read_duration(cells["Elapsed"]) if cells["Elapsed"] else None
        node_hours, expected = cells["Node hours"], cells["Expected start"]
        return cls(
            job_id=texts["Job"],
            name=texts["Name"],
            system=texts["System"],
            state=state,
            reason=remark or None if state is JobState.PENDING else None,
            elements="" if state is JobState.PENDING else remark,
            expected_start=datetime.strptime(expected, _TIME).replace(tzinfo=UTC) if expected else None,
            nodes=texts["Nodes"],
            elapsed=elapsed,
            node_hours=float(node_hours) if node_hours else None,
            used=texts["Used"],
            metrics=markdown.read_cell(cells.get("Metrics", "")),
            page=markdown.read_link(cells.get("Page", "")),
            link=markdown.read_link(cells["Log"]),
        )

    def cells(self) -> dict[str, str]:
        """Return what the table shows of it."""
        remark = self.reason if self.state is JobState.PENDING else self.elements
        texts = {
            "Job": self.job_id,
            "Name": self.name,
            "System": self.system,
            "State": f"{self.state} ({remark})" if remark else str(self.state),
            "Expected start": f"{self.expected_start:{_TIME}}" if self.expected_start else "",
            "Nodes": self.nodes,
            "Elapsed": "" if self.elapsed is None else duration(self.elapsed),
            "Node hours": "" if self.node_hours is None else f"{self.node_hours:.4f}",
            "Used": self.used,
            "Metrics": self.metrics,
        }
        links = {"Page": markdown.link("page", self.page), "Log": markdown.link("log", self.link)}
        return {name: markdown.cell(text) for name, text in texts.items()} | links


def _minute(unix: int | None) -> datetime | None:
    if unix is None:
        return None
    with suppress(OverflowError, OSError, ValueError):  # a number of the scheduler that is no time
        return datetime.fromtimestamp(unix - unix % 60, UTC)
    return None


class JobTable:
    """The jobs of a flow run, as far as a process submitted them or waited for them.

    :param stored_as: the id of the table in Prefect, if it exists
    :param rows: what it shows there
    """

    def __init__(self, flow_run_id: UUID, stored_as: UUID | None = None, rows: Iterable[Row] = ()) -> None:
        self._artifact = Artifact("table", _TABLE, flow_run_id=flow_run_id, stored_as=stored_as)
        self._rows: dict[tuple[str, str], Row] = {(row.system, row.job_id): row for row in rows}

    @classmethod
    async def find(cls, flow_run_id: UUID) -> JobTable:
        """Return the table of a flow run: this process's, else the newest that Prefect has, else a new one."""
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
        from prefect.client.schemas.sorting import ArtifactSort

        if (ours := runtime.state(_JobTables).tables.get(flow_run_id)) is not None:
            return ours
        wanted = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]), key=ArtifactFilterKey(any_=[_TABLE])
        )
        async with get_client() as client:
            found = await client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)
        return cls(flow_run_id, found[0].id, _read_rows(found[0].data)) if found else cls(flow_run_id)

    @classmethod
    def of(cls, flow_run_id: UUID) -> JobTable:
        """Return this process's table of a flow run."""
        tables = runtime.state(_JobTables).tables
        table = tables.setdefault(flow_run_id, cls(flow_run_id))
        tables.move_to_end(flow_run_id)
        while len(tables) > _MOST_TABLES:
            tables.popitem(last=False)
        return table

    def show(self, row: Row, *, instead_of: Job | None = None) -> None:
        """Show a job's row soon, in the place of its older row.

        :param instead_of: a job that ran nothing, whose row is removed
        """
        key = row.system, row.job_id
        if instead_of is not None and instead_of.job_id != row.job_id:
            self._rows.pop((instead_of.system, instead_of.job_id), None)
        before = self._rows.get(key)
        if before is not None:  # who does not wait for the job knows less of it
            row = replace(
                row,
                name=before.name or row.name,
                metrics=row.metrics or before.metrics,
                page=row.page or before.page,
                link=row.link or before.link,
            )
        if before != row:
            self._rows[key] = row
            self._artifact.show(*render_table(self._rows.values()))

    def show_metrics(self, job: Job, metrics: str) -> None:
        """Show new metrics of a job soon, if it has a row.

        :param job: the job
        :param metrics: as in :class:`Row`
        """
        key = job.system, job.job_id
        if (row := self._rows.get(key)) is not None and row.metrics != metrics:
            self._rows[key] = replace(row, metrics=metrics)
            self._artifact.show(*render_table(self._rows.values()))

    def shows(self, job: Job | JobResult) -> bool:
        """Tell whether the table has a row of a job."""
        return (job.system, job.job_id) in self._rows

    def shows_end(self, job: Job | JobResult) -> bool:
        """Tell whether the table shows that a job has ended."""
        row = self._rows.get((job.system, job.job_id))
        return row is not None and row.state.ended

    async def write(self) -> bool:
        """Write the table now, and tell whether that has succeeded."""
        return await self._artifact.write()


class _JobTables:
    """The tables of this process. Used in the runtime's event loop alone."""

    def __init__(self) -> None:
        self.tables: OrderedDict[UUID, JobTable] = OrderedDict()


def _read_rows(data: Any) -> list[Row]:
    """Return the rows of a table as Prefect has stored it, without what is none: anybody may write tables."""
    rows = []
    with suppress(ValueError, TypeError):
        for cells in json.loads(data):
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                rows.append(Row.read(cells))
    return rows


def render_table(rows: Iterable[Row]) -> tuple[str, str]:
    """Return the data and the description of a table; of many jobs, those that ended well are only counted."""
    rows = list(rows)
    states = Counter(str(row.state) for row in rows)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    description = f"{len(rows)} job{'s' * (len(rows) != 1)}: {counts}"
    if known := [row.node_hours for row in rows if row.node_hours is not None]:
        description += f"; {sum(known):.4f} node hours"
    shown = rows
    if len(rows) > _MOST_ROWS:
        shown = sorted(rows, key=lambda row: row.state is JobState.COMPLETED)[:_MOST_ROWS]
        description += f"; {len(rows) - len(shown)} are not listed"
    cells = [row.cells() for row in shown]
    empty = {name for name in _OPTIONAL if not any(one[name] for one in cells)}
    return json.dumps([{name: text for name, text in one.items() if name not in empty} for one in cells]), description
