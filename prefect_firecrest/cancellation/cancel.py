"""Cancels many jobs at once, by their records."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING

from firecrest_core import lifecycle
from firecrest_core.errors import FirecRESTError
from firecrest_core.jobs.key import fingerprint, read_job_name
from prefect_firecrest.credentials import FirecRESTCredentials
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from firecrest_core.api.client import System
    from firecrest_core.connection import Connection
    from prefect_firecrest.cancellation.records import JobRecord

log = logging.getLogger(__name__)


async def cancel_recorded(connection: Connection, records: Collection[JobRecord]) -> None:
    """Make sure that no job of these records runs any more, or ever.

    The jobs that are in the queue are deleted first, with one list of jobs for each system: the claims of hundreds of
    jobs take minutes. The claims stop the jobs that are not in the list yet.

    :raises FirecRESTError: where that failed; the others are cancelled all the same
    """
    async with runtime.client(connection) as client:
        if len(records) > 1:
            systems = {record.system for record in records}
            await asyncio.gather(
                *(_delete_visible(client.system(name), records) for name in systems),
                return_exceptions=True,  # the claims decide
            )
        problems = await asyncio.gather(
            *(lifecycle.cancel(client.system(record.system), record.job()) for record in records),
            return_exceptions=True,
        )
    for problem in problems:
        if problem is not None:
            raise problem


async def cancel_with_saved_credentials(records: Collection[JobRecord]) -> None:
    """Do what :func:`cancel_recorded` does in a process that knows the records alone.

    Jobs that were submitted with credentials that were never saved are out of reach, which is logged.

    :raises ValueError: the block with the credentials is gone
    :raises FirecRESTError: where it failed; the others are cancelled all the same
    """
    by_block: defaultdict[str | None, list[JobRecord]] = defaultdict(list)
    for record in records:
        by_block[record.credentials].append(record)
    if left := by_block.pop(None, []):
        log.warning(
            "%d submissions are left to the flow's own process: their credentials are known there alone. Save them as "
            "a block (FirecRESTCredentials.save) and load it in the flow.",
            len(left),
        )
    problem: Exception | None = None
    for name, some in by_block.items():
        assert name is not None
        try:
            credentials: FirecRESTCredentials = await FirecRESTCredentials.aload(name)
            await cancel_recorded(credentials.connection(), some)
        except (FirecRESTError, ValueError) as error:
            problem = error
    if problem is not None:
        raise problem


async def _delete_visible(system: System, records: Collection[JobRecord]) -> None:
    ours = {(fingerprint(record.identity), record.epoch) for record in records if record.identity}
    rows = [row for row in await system.get_jobs() if not row.state.ended]
    names = [(row.of_job, read_job_name(row.name)) for row in rows]
    found = dict.fromkeys(job_id for job_id, name in names if name is not None and name[:2] in ours)
    await asyncio.gather(*(system.cancel_job(job_id) for job_id in found), return_exceptions=True)
