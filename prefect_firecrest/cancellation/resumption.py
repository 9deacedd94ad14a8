"""Waits until the jobs that a flow run is suspended for have ended, in the place of its process.

It shows meanwhile what that process would show: rows in the tables, and an event at each end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from firecrest_core.errors import JobNotFound, WaitTimedOut
from firecrest_core.jobs.key import fingerprint
from firecrest_core.watch.watcher import JobWatcher
from prefect_firecrest.cancellation.records import JobRecord, RecordArtifact
from prefect_firecrest.cancellation.saved_credentials import SavedCredentials
from prefect_firecrest.clients import client_type
from prefect_firecrest.observability import events
from prefect_firecrest.observability.job_table import JobTable, Row
from prefect_firecrest.pause_key import PauseKey
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.status import JobStatus
    from firecrest_core.result import JobResult

log = logging.getLogger(__name__)

# For so long a new job may be unknown to the scheduler.
_YOUNG = 120.0


@dataclass(frozen=True)
class RecordedJob:
    """A job that a flow run is suspended for, and the record of it.

    :param flow_runs: as in :class:`RecordArtifact`
    """

    job: Job
    record: JobRecord
    flow_runs: tuple[UUID, ...]


def recorded_jobs(key: PauseKey, artifacts: Iterable[RecordArtifact]) -> list[RecordedJob]:
    """Return the jobs of a pause that are on record.

    :param artifacts: those of the flow run
    """
    records = {
        fingerprint(record.identity): (record, artifact)
        for artifact in artifacts
        for record in artifact.records
        if record.identity is not None
    }
    found = []
    for awaited in key.jobs:
        if awaited.fingerprint in records:
            record, artifact = records[awaited.fingerprint]
            found.append(RecordedJob(record.job(awaited.job_id, artifact.written_at), record, artifact.flow_runs))
    return found


async def have_ended(jobs: Sequence[RecordedJob], *, wait: bool) -> bool:
    """Wait until all of these jobs have ended.

    The records need not be signed: this only reads, and a secret that was changed must not keep a flow run asleep.

    :param wait: otherwise they are asked for once
    :returns: whether they have; always true if it waits
    """
    tables = {flow_run: await JobTable.find(flow_run) for one in jobs for flow_run in one.flow_runs}
    waits = [asyncio.create_task(_has_ended(one, tables, wait)) for one in jobs]
    try:
        return all(await asyncio.gather(*waits))
    finally:
        for one in waits:
            one.cancel()
        await asyncio.gather(*(table.write() for table in tables.values()))


async def _has_ended(one: RecordedJob, tables: Mapping[UUID, JobTable], wait: bool) -> bool:
    own = [tables[flow_run] for flow_run in one.flow_runs]
    if own[0].shows_end(one.job):  # before this process began, maybe
        return True
    assert one.record.credentials is not None, "a flow run is suspended with credentials that were saved"
    connection = await runtime.state(SavedCredentials).connect(one.record.credentials)
    is_young = time.time() - one.job.submitted_at < _YOUNG

    def show(status: JobStatus | JobResult) -> None:
        for table in own:
            table.show(Row.of(one.job, status))

    try:
        result = await JobWatcher.shared(connection, one.record.system, client_type(one.record.credentials)).wait(
            one.job,
            timeout=None if wait else 0.0,
            on_message=log.debug,
            on_status=show,
            # The flow run itself finds out whether the job has ended for good, and how.
            not_found_grace=None if is_young else -1.0,
            provisional_grace=-1.0,
        )
    except WaitTimedOut:
        return False
    except JobNotFound as error:
        log.warning("%s", error)
    else:
        await events.send_ended([result], one.flow_runs[0])
        show(result)  # whoever sees it sends no event any more
    log.debug("%s on %s has ended.", one.job, one.record.system)
    return True
