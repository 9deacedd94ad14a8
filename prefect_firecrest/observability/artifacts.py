"""Artifacts of a flow run, such as how much of its time limit a job has used.

An artifact is written again when something has changed, once every few seconds: five hundred jobs that begin one after
another cost the Prefect server a few requests a minute. A write that fails is logged at DEBUG alone: it must neither
fail a job nor lengthen a wait.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

from firecrest_core.result import duration

if TYPE_CHECKING:
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.status import JobStatus

log = logging.getLogger(__name__)

_INTERVAL = 5.0
_WRITE_TIMEOUT = 10.0


class Artifact:
    """One artifact, brought up to date every few seconds.

    :param kind: ``table``, ``progress`` or ``markdown``, as Prefect calls them
    :param key: its name on the page of artifacts, where the newest of each name is shown
    :param stored_as: its id, if it exists
    """

    def __init__(
        self,
        kind: str,
        key: str,
        *,
        flow_run_id: UUID,
        task_run_id: UUID | None = None,
        stored_as: UUID | None = None,
    ) -> None:
        self._kind, self._key = kind, key
        self._runs = {"flow_run_id": flow_run_id, "task_run_id": task_run_id}
        self._id = stored_as
        self._pending: tuple[Any, str] | None = None
        self._written_at = float("-inf")
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def show(self, data: Any, description: str) -> None:
        """Write this soon."""
        self._pending = data, description
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_soon())

    async def write(self) -> bool:
        """Write what waits to be written now; callers who ask for it at the same time share a request.

        :returns: whether that has succeeded; what could not be written waits for the next call
        """
        async with self._writing:
            if (writing := self._pending) is None:
                return True
            try:
                async with asyncio.timeout(_WRITE_TIMEOUT):
                    await self._send(*writing)
            except Exception as error:
                log.debug("The artifact %s was not written: %s", self._key, error)
                return False
            else:
                if self._pending is writing:
                    self._pending = None
                return True
            finally:
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
