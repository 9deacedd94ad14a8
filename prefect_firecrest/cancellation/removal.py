"""Removes the claims of flow runs that have completed: no try of theirs looks for a job any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from firecrest_core import lifecycle
from prefect_firecrest.credentials import FirecRESTCredentials
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from firecrest_core.connection import Connection
    from firecrest_core.jobs.job import Job
    from prefect_firecrest.cancellation.records import JobRecord


async def remove_claims(connection: Connection, records: Iterable[JobRecord]) -> None:
    """Remove the claims of these records; see :func:`firecrest_core.lifecycle.clean_up` for what is left, and why."""
    by_system: defaultdict[str, list[Job]] = defaultdict(list)
    for record in records:
        if record.identity is not None:
            by_system[record.system].append(record.job())
    if by_system:
        async with runtime.client(connection) as client:
            for system, jobs in by_system.items():
                await lifecycle.clean_up(client.system(system), jobs)


async def remove_with_saved_credentials(records: Iterable[JobRecord]) -> None:
    """Do the same in a process that knows the records alone. Without saved credentials, the claims are left to age.

    :raises ValueError: the block with the credentials is gone
    """
    by_block: defaultdict[str, set[JobRecord]] = defaultdict(set)
    for record in records:
        if record.credentials is not None:
            by_block[record.credentials].add(record)
    for name, some in by_block.items():
        credentials: FirecRESTCredentials = await FirecRESTCredentials.aload(name)
        await remove_claims(credentials.connection(), some)
