"""Whether a record that was found in Prefect may be acted upon with credentials that were saved.

Everybody who reaches Prefect's API may write artifacts. So a record counts only if it is signed with the secret of the
credentials that it names, for the very flow run. Records are checked when they are first seen, too, so that it changes
nothing if the secret is changed while this process lives.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from firecrest_core.connection import Connection
from firecrest_core.errors import FirecRESTError
from firecrest_core.jobs.signature import KnownSignatures
from prefect_firecrest.cancellation.records import JobRecord, RecordArtifact
from prefect_firecrest.cancellation.saved_credentials import SavedCredentials
from prefect_firecrest.runtime import runtime

log = logging.getLogger(__name__)


class UnsignedRecord(Exception):
    """A record is not signed, so its jobs are left alone; the log has said it."""


class RecordSignatures:
    """The records that this process has found to be signed. ``runtime.state(RecordSignatures)`` is the only one."""

    def __init__(self) -> None:
        self._known = KnownSignatures()
        self._reported: set[UUID] = set()

    async def look_at(self, artifacts: Iterable[RecordArtifact]) -> None:
        """Check the records of new artifacts. This loads each of the blocks that they name once.

        :param artifacts: the new ones
        """
        by_block: defaultdict[str, list[tuple[RecordArtifact, JobRecord]]] = defaultdict(list)
        for artifact in artifacts:
            for record in artifact.records:
                if record.credentials is not None:
                    by_block[record.credentials].append((artifact, record))
        for name, some in by_block.items():
            try:
                connection = await runtime.state(SavedCredentials).load(name)
            except (FirecRESTError, ValueError) as error:  # it is loaded again when something is to be done
                log.debug("The records of the credentials %r cannot be checked yet: %s", name, error)
                continue
            for artifact, record in some:
                self._check(connection, artifact, record)

    def signed(self, connection: Connection, artifact: RecordArtifact, name: str) -> list[JobRecord]:
        """Return those records of an artifact that may be acted upon, and say once if there are others.

        :param connection: of the credentials, as they are now
        :param artifact: what holds the records
        :param name: the credentials' name; records with others are left out
        """
        ours = [record for record in artifact.records if record.credentials == name]
        signed = [record for record in ours if self._check(connection, artifact, record)]
        if len(signed) < len(ours) and artifact.id not in self._reported:
            self._reported.add(artifact.id)
            log.warning(
                "%d records of the jobs of flow run %s are not signed with the present secret of the credentials %r, "
                "so nothing is done about these jobs. Either somebody has made the records up, or the secret was "
                "changed: then end the jobs by hand (scancel); the log of the flow run names them.",
                len(ours) - len(signed),
                artifact.flow_runs[0],
                name,
            )
        return signed

    def _check(self, connection: Connection, artifact: RecordArtifact, record: JobRecord) -> bool:
        return self._known.check(connection, record.signature, *record.content(artifact.flow_runs))
