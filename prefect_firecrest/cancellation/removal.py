"""Removes the claims of flow runs that have completed: no try of theirs looks for a job any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from firecrest_core import lifecycle
from prefect_firecrest.cancellation.saved_credentials import SavedCredentials
from prefect_firecrest.cancellation.signatures import RecordSignatures
from prefect_firecrest.clients import client_of
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from firecrest_core.connection import Connection
    from firecrest_core.jobs.job import Job
    from prefect_firecrest.cancellation.records import JobRecord, RecordArtifact


async def remove_claims(connection: Connection, saved_as: str | None, records: Iterable[JobRecord]) -> None:
    """Remove the claims of these records; see :func:`firecrest_core.lifecycle.clean_up` for what is left, and why.

    :param saved_as: the name of the connection's block
    """
    by_system: defaultdict[str, list[Job]] = defaultdict(list)
    for record in records:
        if record.identity is not None:
            by_system[record.system].append(record.job())
    if by_system:
        async with client_of(connection, saved_as) as client:
            for system, jobs in by_system.items():
                await lifecycle.clean_up(client.system(system), jobs)


async def remove_with_saved_credentials(artifacts: Iterable[RecordArtifact]) -> None:
    """Do the same in a process that knows the records alone. Without saved credentials, the claims are left to age.

    :raises CredentialsUnusable: the credentials cannot be used now
    """
    by_block: defaultdict[str, list[RecordArtifact]] = defaultdict(list)
    for artifact in artifacts:
        for name in {record.credentials for record in artifact.records if record.credentials is not None}:
            by_block[name].append(artifact)
    for name, some in by_block.items():
        connection = await runtime.state(SavedCredentials).connect(name)
        signatures = runtime.state(RecordSignatures)
        await remove_claims(
            connection, name, {record for one in some for record in signatures.signed(connection, one, name)}
        )
