"""Cancels many jobs at once, by their records."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING

from firecrest_core import lifecycle
from firecrest_core.errors import FirecRESTError
from prefect_firecrest.cancellation.ends import show_ends
from prefect_firecrest.cancellation.saved_credentials import CredentialsUnusable, SavedCredentials
from prefect_firecrest.cancellation.signatures import RecordSignatures, UnsignedRecord
from prefect_firecrest.clients import client_of
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from uuid import UUID

    from firecrest_core.connection import Connection
    from firecrest_core.jobs.job import Job
    from prefect_firecrest.cancellation.policy import EndReason
    from prefect_firecrest.cancellation.records import JobRecord, RecordArtifact

log = logging.getLogger(__name__)


class EndsNotShown(Exception):
    """The jobs are cancelled, but Prefect does not show it yet."""


async def cancel_recorded(connection: Connection, saved_as: str | None, records: Collection[JobRecord]) -> None:
    """Make sure that no job of these records runs any more, or ever.

    :param saved_as: the name of the connection's block
    :raises FirecRESTError: where that failed; the others are cancelled all the same
    """
    by_system: defaultdict[str, list[Job]] = defaultdict(list)
    for record in records:
        by_system[record.system].append(record.job())
    async with client_of(connection, saved_as) as client:
        problems = await asyncio.gather(
            *(lifecycle.cancel_all(client.system(name), jobs) for name, jobs in by_system.items()),
            return_exceptions=True,
        )
    for problem in problems:
        if isinstance(problem, BaseException):
            raise problem
        for error in problem.values():
            raise error


async def cancel_with_saved_credentials(artifacts: Collection[RecordArtifact], reason: EndReason) -> None:
    """Do what :func:`cancel_recorded` does in a process that knows the records alone, and show it in Prefect.

    Jobs that were submitted with credentials that were never saved are out of reach, which is logged.

    :param reason: why they are cancelled
    :raises CredentialsUnusable: some of the credentials cannot be used now
    :raises UnsignedRecord: a record is not signed with its credentials; the others are cancelled all the same
    :raises EndsNotShown: all are cancelled, but Prefect's API did not take it
    :raises FirecRESTError: where it failed; the others are cancelled all the same
    """
    by_block: defaultdict[str | None, list[RecordArtifact]] = defaultdict(list)
    for artifact in artifacts:
        for name in dict.fromkeys(record.credentials for record in artifact.records):
            by_block[name].append(artifact)
    if left := by_block.pop(None, []):
        log.warning(
            "%d submissions are left to the flow's own process: their credentials are known there alone. Save them as "
            "a block (FirecRESTCredentials.save) and load it in the flow.",
            sum(record.credentials is None for artifact in left for record in artifact.records),
        )
    problem: Exception | None = None
    for name, some in by_block.items():
        assert name is not None
        try:
            await _cancel_with(name, some, reason)
        except (FirecRESTError, CredentialsUnusable, UnsignedRecord, EndsNotShown) as error:
            problem = error
    if problem is not None:
        raise problem


async def _cancel_with(name: str, artifacts: Collection[RecordArtifact], reason: EndReason) -> None:
    connection = await runtime.state(SavedCredentials).connect(name)
    signatures = runtime.state(RecordSignatures)
    by_flow_run: defaultdict[tuple[UUID, ...], set[JobRecord]] = defaultdict(set)
    for artifact in artifacts:
        by_flow_run[artifact.flow_runs].update(signatures.signed(connection, artifact, name))
    signed = set().union(*by_flow_run.values())
    await cancel_recorded(connection, name, signed)
    shown = await show_ends(connection, name, by_flow_run, reason)
    if len(signed) < len({record for one in artifacts for record in one.records if record.credentials == name}):
        raise UnsignedRecord(f"there are records that are not signed with the credentials {name!r}")
    if not shown:
        runs = ", ".join(str(flow_runs[0]) for flow_runs in by_flow_run)
        raise EndsNotShown(f"The jobs of flow run {runs} were cancelled, but Prefect's API did not take it.")
