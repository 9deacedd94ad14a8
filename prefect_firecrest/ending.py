"""Ends many jobs at once, by what the ledger says of them."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING

from firecrest_core.errors import FirecRESTError
from prefect_firecrest.background import shared_client

if TYPE_CHECKING:
    from firecrest_core.client import FirecRESTClient
    from firecrest_core.connection import Connection
    from prefect_firecrest.ledger import Entry

log = logging.getLogger(__name__)


async def end(connection: Connection, entries: Collection[Entry]) -> None:
    """See to it that no job of these entries runs any more, or ever.

    What can be seen is deleted first, with one list of jobs for each system, since the claims of hundreds of jobs take
    minutes: they are for what cannot be seen yet.

    :raises FirecRESTError: where that failed; the others are ended all the same
    """
    async with shared_client(connection) as client:
        if len(entries) > 1:
            await asyncio.gather(
                *(_delete_visible(client, system, entries) for system in {entry.system for entry in entries}),
                return_exceptions=True,  # what counts are the claims
            )
        problems = await asyncio.gather(*(_end(client, entry) for entry in entries), return_exceptions=True)
    for problem in problems:
        if problem is not None:
            raise problem


async def end_noted(entries: Collection[Entry]) -> None:
    """Do what :func:`end` does where nothing but the ledger is known.

    Jobs that were submitted with credentials that were never saved are out of reach, which is logged.

    :raises ValueError: the block with the credentials is gone
    :raises FirecRESTError: where it failed; the others are ended all the same
    """
    from prefect_firecrest.credentials import FirecRESTCredentials

    by_block: defaultdict[str | None, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_block[entry.credentials].append(entry)
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
            await end(credentials.connection(), some)
        except (FirecRESTError, ValueError) as error:
            problem = error
    if problem is not None:
        raise problem


async def _delete_visible(client: FirecRESTClient, system: str, entries: Collection[Entry]) -> None:
    from firecrest_core import claim

    ours = {(claim.fingerprint(entry.identity), entry.epoch) for entry in entries if entry.identity}
    rows = [row for row in await client.get_jobs(system) if not row.state.ended]
    names = [(row.of_job, claim.read_name(row.name)) for row in rows]
    found = dict.fromkeys(job_id for job_id, name in names if name is not None and name[:2] in ours)
    await asyncio.gather(*(client.cancel(system, job_id) for job_id in found), return_exceptions=True)


async def _end(client: FirecRESTClient, entry: Entry) -> None:
    from firecrest_core import lifecycle

    if entry.identity is not None:
        await lifecycle.cancel_epoch(client, entry.system, entry.working_dir, entry.identity, entry.epoch)
    elif entry.job_id is not None:
        await lifecycle.cancel(client, entry.system, entry.job_id)
