"""Job records: which jobs belong to a flow run, written down in Prefect before they are submitted.

A process that knows nothing of a flow run, on any machine, needs them to end the run's jobs: they say where the jobs
are and which claims are theirs. Prefect's API is all that such a process shares with the run's own. So the records are
artifacts there, without a key, which no page shows. They do not name their flow run in Prefect's own field: what cleans
up after a flow run that was deleted must not delete them.

An artifact is written once and never changed. Records that are written at the same time share one, so that a sweep of
hundreds does not cost a request each. Whoever has ended the jobs of an artifact, or sees that its flow run ended by
itself, deletes it.

Everybody who reaches Prefect's API may write artifacts. So each record is signed with the secret of its credentials
(:mod:`firecrest_core.jobs.signature`), for the very flow run.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Self
from uuid import UUID

from pydantic import Field, TypeAdapter, ValidationError

from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, fingerprint
from firecrest_core.jobs.signature import sign
from firecrest_core.spec.place import Place
from prefect_firecrest.prefect_internals import PAGE_SIZE
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import Artifact

    from firecrest_core.connection import Connection

log = logging.getLogger(__name__)

ARTIFACT_TYPE = "firecrest-jobs"


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """The jobs of one submission.

    :param credentials: name of the block; ``None`` for credentials that were never saved
    :param identity: what the claims are for, with ``epoch``; ``None`` for a job without a claim, which is known by its
        ``job_id`` alone
    :param array: of an array, its indices in Slurm's form
    :param elsewhere: alternatives of it may be at other places, which the claims here know
    :param signature: of everything else, by :meth:`signed`
    :raises ValueError: the identity or the epoch is not valid
    """

    system: str
    working_dir: str
    credentials: str | None = None
    identity: str | None = None
    epoch: int = 0
    job_id: str | None = None
    array: str | None = None
    elsewhere: bool = False
    signature: str = ""

    def __post_init__(self) -> None:
        self._key()

    @classmethod
    def of(cls, job: Job, credentials: str | None) -> Self:
        """Return the record of a job.

        :param credentials: name of the block
        """
        return cls(
            system=job.origin.system,
            working_dir=job.origin.working_dir,
            credentials=credentials,
            identity=job.key.identity if job.key else None,
            epoch=job.key.epoch if job.key else 0,
            job_id=job.job_id,
            array=None if job.array_indices is None else str(job.array_indices),
            elsewhere=job.home is not None,
        )

    def signed(self, connection: Connection, flow_runs: tuple[UUID, ...]) -> Self:
        """Return the record with its signature.

        :param connection: what the jobs are submitted with
        :param flow_runs: as in :class:`RecordArtifact`
        """
        return replace(self, signature=sign(connection, *self.content(flow_runs)))

    def content(self, flow_runs: tuple[UUID, ...]) -> tuple[object, ...]:
        """Return what is signed.

        :param flow_runs: as in :class:`RecordArtifact`
        """
        return ARTIFACT_TYPE, [str(flow_run) for flow_run in flow_runs], asdict(self) | {"signature": ""}

    def job(self, job_id: str | None = None, submitted_at: float = 0.0) -> Job:
        """Return the job as the core takes it.

        :param job_id: its id, where the record knows the claim alone
        :param submitted_at: Unix time
        """
        return Job(
            system=self.system,
            job_id=job_id or self.job_id or "",
            working_dir=self.working_dir,
            array_indices=Indices.parse(self.array) if self.array else None,
            submitted_at=submitted_at,
            key=self._key(),
            home=Place(self.system, self.working_dir) if self.elsewhere else None,
        )

    def job_name_pattern(self) -> str:
        """Return what a person looks for in the scheduler's list of jobs, in place of an id that is not known."""
        if self.identity is None:
            return f"job {self.job_id!r} on {self.system!r}"
        return f"*-{fingerprint(self.identity)}-{self.epoch}.* on {self.system!r}"

    def _key(self) -> ClaimKey | None:
        return None if self.identity is None else ClaimKey(self.identity, self.epoch)


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
        """Return what an artifact of Prefect's holds.

        :raises ValueError: it has another form; the message does not show what it holds
        """
        try:
            data = _DATA.validate_json(json.dumps(artifact.data), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))[:60]}: {first['type']}") from None
        written_at = artifact.created.timestamp() if artifact.created else 0.0
        return cls(artifact.id, data.flow_runs, data.records, written_at)


@dataclass(frozen=True)
class _Data:
    """What an artifact holds."""

    flow_runs: Annotated[tuple[UUID, ...], Field(min_length=1)]
    records: tuple[JobRecord, ...]


_DATA = TypeAdapter(_Data)


class _BrokenArtifacts(set[UUID]):
    """Those that this process has complained of."""


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
        found += [one for artifact in page if artifact.id not in known and (one := _read(artifact)) is not None]
        if len(page) < PAGE_SIZE or any(artifact.id in known for artifact in page):
            return found
        offset += PAGE_SIZE


def _read(artifact: Artifact) -> RecordArtifact | None:
    """Read an artifact; say once if it cannot be read, because the others can be all the same."""
    try:
        return RecordArtifact.read(artifact)
    except ValueError as error:
        broken = runtime.state(_BrokenArtifacts)
        if artifact.id not in broken:
            broken.add(artifact.id)
            log.warning(
                "Artifact %s is of the type %s, but this package has not written it (%s). It is ignored; delete it.",
                artifact.id,
                ARTIFACT_TYPE,
                error,
            )
        return None


async def delete(client: PrefectClient, artifact_ids: Iterable[UUID]) -> None:
    """Delete artifacts; those that are gone already are no error."""
    from prefect.exceptions import ObjectNotFound

    for artifact_id in artifact_ids:
        with suppress(ObjectNotFound):
            await client.delete_artifact(artifact_id)
