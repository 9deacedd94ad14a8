"""Which jobs belong to a flow run, written down in Prefect before they are submitted.

It is what a process that knows nothing of a flow run, on any machine, needs to end the run's jobs: where they are and
which claims are theirs. Prefect's API is all that such a process shares with the run's own, so it is kept there, as
artifacts without a key, which no page shows. They do not name their flow run as Prefect would have it: what cleans up
after a flow run that was deleted must not take them away.

A note is written once and never changed, and calls that are made at once share one, so that a sweep of hundreds does
not cost a request each. Whoever has ended a note's jobs, or sees that its flow run ended by itself, deletes it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import Artifact

TYPE = "firecrest-jobs"

# The most that Prefect gives in one answer.
_PAGE = 200


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One call's jobs.

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


@dataclass(frozen=True)
class Note:
    """Entries of one flow run.

    :param flow_runs: the flow run and those that it runs in, the innermost first
    :param written_at: seconds since the epoch
    """

    id: UUID
    flow_runs: tuple[UUID, ...]
    entries: tuple[Entry, ...]
    written_at: float

    @classmethod
    def read(cls, artifact: Artifact) -> Note:
        data: Any = artifact.data
        flow_runs = tuple(UUID(text) for text in data["flow_runs"])
        entries = tuple(Entry(**entry) for entry in data["entries"])
        return cls(artifact.id, flow_runs, entries, artifact.created.timestamp() if artifact.created else 0.0)


@dataclass
class _Draft:
    """What the calls of one flow run want to have written, while an earlier note of theirs is on its way."""

    entries: list[Entry] = field(default_factory=list)
    written: asyncio.Task[UUID] | None = None


# Used in the background's event loop alone.
_drafts: dict[tuple[UUID, ...], _Draft] = {}
_under_way: dict[tuple[UUID, ...], asyncio.Task[UUID]] = {}


async def write(flow_runs: tuple[UUID, ...], entry: Entry) -> UUID:
    """Write an entry down, in a note with all others that are waiting to be.

    :param flow_runs: the flow run and those that it runs in, the innermost first
    :returns: the note's id
    """
    draft = _drafts.setdefault(flow_runs, _Draft())
    draft.entries.append(entry)
    if draft.written is None:
        draft.written = asyncio.create_task(_write(flow_runs, draft, _under_way.get(flow_runs)))
        _under_way[flow_runs] = draft.written
    return await asyncio.shield(draft.written)


async def _write(flow_runs: tuple[UUID, ...], draft: _Draft, before: asyncio.Task[UUID] | None) -> UUID:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate

    if before is not None:
        await asyncio.wait({before})
    del _drafts[flow_runs]  # from here on, entries go to the next one
    entries = [{name: value for name, value in asdict(entry).items() if value} for entry in draft.entries]
    data = {"flow_runs": [str(flow_run) for flow_run in flow_runs], "entries": entries}
    try:
        async with get_client() as client:
            artifact = await client.create_artifact(ArtifactCreate(type=TYPE, data=data))
    finally:
        if _under_way.get(flow_runs) is draft.written:
            del _under_way[flow_runs]
    return artifact.id


async def read(client: PrefectClient, known: Iterable[UUID] = ()) -> list[Note]:
    """Return the notes, the newest first.

    :param known: of these and of what is older than the page that they are on, nothing is told: notes do not change
    """
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterType
    from prefect.client.schemas.sorting import ArtifactSort

    known, offset = set(known), 0
    notes: list[Note] = []
    while True:
        page = await client.read_artifacts(
            artifact_filter=ArtifactFilter(type=ArtifactFilterType(any_=[TYPE])),
            sort=ArtifactSort.CREATED_DESC,
            limit=_PAGE,
            offset=offset,
        )
        notes += [Note.read(artifact) for artifact in page if artifact.id not in known]
        if len(page) < _PAGE or any(artifact.id in known for artifact in page):
            return notes
        offset += _PAGE


async def forget(client: PrefectClient, notes: Iterable[UUID]) -> None:
    """Delete notes; those that are gone already are no error."""
    from prefect.exceptions import ObjectNotFound

    for note in notes:
        with suppress(ObjectNotFound):
            await client.delete_artifact(note)


def _begin_anew() -> None:
    """Forget, in a process that was forked, what its parent is writing."""
    _drafts.clear()
    _under_way.clear()


os.register_at_fork(after_in_child=_begin_anew)
