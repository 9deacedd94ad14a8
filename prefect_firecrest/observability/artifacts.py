"""Artifacts: a table of a flow run's jobs, and how much of its time limit a job has used.

An artifact is written again when something has changed, once every few seconds: five hundred jobs that begin one after
another cost the Prefect server a few requests a minute. A write that fails is logged at DEBUG alone: it must neither
fail a job nor lengthen a wait.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from firecrest_core.result import duration
from firecrest_core.states import JobState
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.status import JobStatus
    from firecrest_core.result import JobResult

log = logging.getLogger(__name__)

_INTERVAL = 5.0
_WRITE_TIMEOUT = 10.0
_MOST_ROWS = 500
# Far more flow runs than a process has under way.
_MOST_TABLES = 100


class Artifact:
    """One artifact, brought up to date every few seconds.

    :param kind: ``table`` or ``progress``, as Prefect calls them
    :param key: its name on the page of artifacts, where the newest of each name is shown
    """

    def __init__(self, kind: str, key: str, *, flow_run_id: UUID, task_run_id: UUID | None = None) -> None:
        self._kind, self._key = kind, key
        self._runs = {"flow_run_id": flow_run_id, "task_run_id": task_run_id}
        self._id: UUID | None = None
        self._pending: tuple[Any, str] | None = None
        self._written_at = float("-inf")
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def show(self, data: Any, description: str) -> None:
        """Write this soon."""
        self._pending = data, description
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_soon())

    async def write(self) -> None:
        """Write what waits to be written now; callers who ask for it at the same time share a request."""
        async with self._writing:
            if self._pending is None:
                return
            (data, description), self._pending = self._pending, None
            try:
                async with asyncio.timeout(_WRITE_TIMEOUT):
                    await self._send(data, description)
            except Exception as error:
                log.debug("The artifact %s was not written: %s", self._key, error)
            self._written_at = asyncio.get_running_loop().time()

    async def _write_soon(self) -> None:
        await asyncio.sleep(self._written_at + _INTERVAL - asyncio.get_running_loop().time())
        await self.write()

    async def _send(self, data: Any, description: str) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

        async with get_client() as client:
            if self._id is None:
                new = ArtifactCreate(key=self._key, type=self._kind, data=data, description=description, **self._runs)
                self._id = (await client.create_artifact(new)).id
            else:
                await client.update_artifact(self._id, ArtifactUpdate(data=data, description=description))


def progress_key(job: Job) -> str:
    """Return a name for a job's progress, in the letters, digits and dashes that Prefect allows."""
    return "-".join(["firecrest", *re.findall("[a-z0-9]+", (job.name or "job").lower())])


def time_used(status: JobStatus) -> tuple[float, str] | None:
    """Return the percentage of its time limit that a job has used, and a line that says so."""
    if not status.time_limit or status.elapsed is None:
        return None
    share = min(100.0, 100 * status.elapsed / status.time_limit)
    return round(share, 1), f"{status.state}, {duration(status.elapsed)} of {duration(status.time_limit)}"


# --- the table ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A job in the table.

    :param link: where Prefect shows the run that waits for it
    """

    job_id: str
    name: str
    system: str
    state: JobState
    reason: str | None = None
    nodes: str = ""
    node_count: int | None = None
    elapsed: int | None = None
    link: str | None = None

    @classmethod
    def of(cls, job: Job | JobResult, status: JobStatus | JobResult, link: str | None) -> Row:
        """Return the row of a job (or of its result) with this status."""
        return cls(
            job_id=job.job_id,
            name=job.name or status.name,
            system=job.system,
            state=status.state,
            reason=status.reason,
            nodes=status.nodes,
            node_count=status.node_count,
            elapsed=status.elapsed,
            link=link,
        )

    @property
    def node_hours(self) -> float | None:
        """Nodes times hours; ``None`` where either is unknown."""
        return None if self.node_count is None or self.elapsed is None else self.node_count * self.elapsed / 3600

    def cells(self) -> dict[str, Any]:
        """Return what the table shows of it."""
        waits = self.state is JobState.PENDING and self.reason
        return {
            "Job": self.job_id,
            "Name": self.name,
            "System": self.system,
            "State": f"{self.state} ({self.reason})" if waits else str(self.state),
            "Nodes": self.nodes,
            "Elapsed": "" if self.elapsed is None else duration(self.elapsed),
            "Node hours": "" if self.node_hours is None else f"{self.node_hours:.4f}",
            "Log": f"[log]({self.link})" if self.link else "",
        }


class JobTable:
    """The jobs of a flow run, as far as this process submitted them or waited for them."""

    def __init__(self, flow_run_id: UUID) -> None:
        self._artifact = Artifact("table", "firecrest-jobs", flow_run_id=flow_run_id)
        self._rows: dict[tuple[str, str], Row] = {}

    @classmethod
    def of(cls, flow_run_id: UUID) -> JobTable:
        """Return the table of a flow run."""
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
        if self._rows.get(key) != row:
            self._rows[key] = row
            self._artifact.show(*render_table(self._rows.values()))

    async def write(self) -> None:
        """Write the table now."""
        await self._artifact.write()


class _JobTables:
    """The tables of this process. Used in the runtime's event loop alone."""

    def __init__(self) -> None:
        self.tables: OrderedDict[UUID, JobTable] = OrderedDict()


def render_table(rows: Iterable[Row]) -> tuple[str, str]:
    """Return the data and the description of a table; of many jobs, those that ended well are only counted."""
    rows = list(rows)
    states = Counter(str(row.state) for row in rows)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    description = f"{len(rows)} job{'s' * (len(rows) != 1)}: {counts}"
    description += f"; {sum(row.node_hours or 0 for row in rows):.4f} node hours"
    shown = rows
    if len(rows) > _MOST_ROWS:
        shown = sorted(rows, key=lambda row: row.state is JobState.COMPLETED)[:_MOST_ROWS]
        description += f"; {len(rows) - len(shown)} are not listed"
    return json.dumps([row.cells() for row in shown]), description
