"""Whether a record that was found in Airflow's database may be acted upon.

Records are checked when they are first seen, too, while nothing is to be cancelled yet. So it changes nothing if the
connection's secret is changed later.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_provider_firecrest.cancellation.accounts import by_account
from airflow_provider_firecrest.cancellation.scan import Row, ScannedRecord

if TYPE_CHECKING:
    from firecrest_core.connection import Connection

log = logging.getLogger(__name__)


class RecordSignatures:
    """The records that a process has found to be signed, and those that it has complained of."""

    def __init__(self) -> None:
        from firecrest_core.jobs.signature import KnownSignatures

        self._known = KnownSignatures()
        self._seen: set[Row] = set()
        self._reported: set[Row] = set()

    async def look_at(self, scanned: Iterable[ScannedRecord]) -> None:
        """Check the records that are new. This loads each of their connections once.

        :param scanned: all records; those that are not among them are forgotten
        """
        scanned = list(scanned)
        new = [one for one in scanned if one.row not in self._seen]
        self._seen = {one.row for one in scanned}
        self._reported &= self._seen
        if not new:
            return
        for account, some in (await by_account(new)).items():
            try:
                connection = await account.load()
            except Exception as error:  # it is loaded again when something is to be done
                log.debug("The records of the connection %s cannot be checked yet: %s", account, error)
                continue
            for one in some:
                self._check(one, connection)

    def approve(self, one: ScannedRecord, connection: Connection) -> bool:
        """Tell whether a record may be acted upon, and say once if it may not.

        :param one: the record
        :param connection: the one that the record names, as it is now
        """
        if self._check(one, connection):
            return True
        if one.row not in self._reported:
            self._reported.add(one.row)
            log.warning(
                "The record of the jobs of %s is not signed with the present secret of the connection %r, so nothing "
                "is done about them. Either somebody has edited the record, or the secret was changed: then the "
                "task's worker or trigger cancels them. If neither is alive, do so by hand (scancel); the task's log "
                "names them.",
                one.task,
                one.record.firecrest_conn_id,
            )
        return False

    def _check(self, one: ScannedRecord, connection: Connection) -> bool:
        stored = one.stored
        task = (stored.dag_id, stored.dag_run[1], stored.task_id, stored.map_index)
        return self._known.check(connection, one.record.signature, *one.record.content(task))
