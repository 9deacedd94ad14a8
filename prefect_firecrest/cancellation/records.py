"""Job records: which jobs belong to a flow run, written down in Prefect before they are submitted.

A process that knows nothing of a flow run, on any machine, needs them to end the run's jobs: they say where the jobs
are and which claims are theirs. Prefect's API is all that such a process shares with the run's own. So the records are
artifacts there, without a key, which no page shows. They do not name their flow run in Prefect's own field: what cleans
up after a flow run that was deleted must not delete them.

An artifact is written once and never changed. Records that are written at the same time share one, so that a sweep of
hundreds does not cost a request each. Whoever has ended the jobs of an artifact, or sees that its flow run ended by
itself, deletes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec import arrays
from prefect_firecrest.prefect_internals import PAGE_SIZE

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import Artifact

ARTIFACT_TYPE = "firecrest-jobs"


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """The jobs of one submission.

    :param credentials: name of the block; ``None`` for credentials that were never saved
    :param identity: what the claims are for, with ``epoch``; ``None`` for a job without a claim, which is known by its
        ``job_id`` alone
    :param array: of an array, its indices in Slurm's form
    """

    system: str
    working_dir: str
    credentials: str | None = None
    identity: str | None = None
    epoch: int = 0
    job_id: str | None = None
    array: str | None = None

    def job(self, job_id: str | None = None, submitted_at: float = 0.0) -> Job:
        """Return the job as the core takes it.

        :param job_id: its id, where the record knows the claim alone
        :param submitted_at: Unix time
        """
        return Job(
            system=self.system,
            job_id=job_id or self.job_id or "",
            working_dir=self.working_dir,
            array_indices=arrays.indices(self.array) if self.array else None,
            submitted_at=submitted_at,
            key=None if self.identity is None else ClaimKey(self.identity, self.epoch),
        )


@dataclass(frozen=True)
class RecordArtifact:
    """An artifact that holds records of one flow run.

    :param flow_runs: the flow run and those that it runs in, the innermost first
    :param written_at: Unix time
    """

    id: UUID
    flow_runs: tuple[UUID, ...]
    records: tuple[JobRecord, ...]
    written_at: float

    @classmethod
    def read(cls, artifact: Artifact) -> RecordArtifact:
        """Return what an artifact of Prefect's holds."""
        data: Any = artifact.data
        flow_runs = tuple(UUID(text) for text in data["flow_runs"])
        records = tuple(JobRecord(**record) for record in data["records"])
        return cls(artifact.id, flow_runs, records, artifact.created.timestamp() if artifact.created else 0.0)


@dataclass
class _PendingRecords:
    """Records of one flow run that wait while an earlier artifact of it is being written."""

    records: list[JobRecord] = field(default_factory=list)
    written: asyncio.Task[UUID] | None = None


class RecordWriter:
    """Writes the records of this process. Used in the runtime's event loop alone."""

    def __init__(self) -> None:
        self._pending: dict[tuple[UUID, ...], _PendingRecords] = {}
        self._under_way: dict[tuple[UUID, ...], asyncio.Task[UUID]] = {}

    async def write(self, flow_runs: tuple[UUID, ...], record: JobRecord) -> UUID:
        """Write a record, in one artifact with all others of the flow run that wait to be written.

        :param flow_runs: the flow run and those that it runs in, the innermost first
        :returns: the artifact's id
        """
        pending = self._pending.setdefault(flow_runs, _PendingRecords())
        pending.records.append(record)
        if pending.written is None:
            pending.written = asyncio.create_task(self._write(flow_runs, pending, self._under_way.get(flow_runs)))
            self._under_way[flow_runs] = pending.written
        return await asyncio.shield(pending.written)

    async def _write(
        self, flow_runs: tuple[UUID, ...], pending: _PendingRecords, before: asyncio.Task[UUID] | None
    ) -> UUID:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactCreate

        if before is not None:
            await asyncio.wait({before})
        del self._pending[flow_runs]  # later records go into the next artifact
        records = [{name: value for name, value in asdict(record).items() if value} for record in pending.records]
        data = {"flow_runs": [str(flow_run) for flow_run in flow_runs], "records": records}
        try:
            async with get_client() as client:
                artifact = await client.create_artifact(ArtifactCreate(type=ARTIFACT_TYPE, data=data))
        finally:
            if self._under_way.get(flow_runs) is pending.written:
                del self._under_way[flow_runs]
        return artifact.id


async def read(client: PrefectClient, known: Iterable[UUID] = ()) -> list[RecordArtifact]:
    """Return the artifacts, the newest first.

    :param known: artifacts that the caller has read before. They do not change, so neither they nor those on older
        pages than theirs are returned.
    """
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterType
    from prefect.client.schemas.sorting import ArtifactSort

    known, offset = set(known), 0
    found: list[RecordArtifact] = []
    while True:
        page = await client.read_artifacts(
            artifact_filter=ArtifactFilter(type=ArtifactFilterType(any_=[ARTIFACT_TYPE])),
            sort=ArtifactSort.CREATED_DESC,
            limit=PAGE_SIZE,
            offset=offset,
        )
        found += [RecordArtifact.read(artifact) for artifact in page if artifact.id not in known]
        if len(page) < PAGE_SIZE or any(artifact.id in known for artifact in page):
            return found
        offset += PAGE_SIZE


async def delete(client: PrefectClient, artifact_ids: Iterable[UUID]) -> None:
    """Delete artifacts; those that are gone already are no error."""
    from prefect.exceptions import ObjectNotFound

    for artifact_id in artifact_ids:
        with suppress(ObjectNotFound):
            await client.delete_artifact(artifact_id)
