"""The Airflow connections that records name, as the tasks that have written them read these.

With ``[core] multi_team``, a connection may belong to a team, and then only the team's tasks read it. The reconciler
works for all teams. So it reads a connection in the name of the team that the task's DAG belongs to.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.cancellation.scan import ScannedRecord

if TYPE_CHECKING:
    from firecrest_core.connection import Connection


@dataclass(frozen=True)
class Account:
    """An Airflow connection as a team reads it.

    :param conn_id: the connection
    :param team: the team, ``None`` where there are none
    """

    conn_id: str
    team: str | None = None

    def __str__(self) -> str:
        return f"{self.conn_id!r} of the team {self.team!r}" if self.team else repr(self.conn_id)

    async def load(self) -> Connection:
        """Read the connection.

        :raises ConfigurationError: there is none, or it is incomplete
        """
        from airflow_provider_firecrest.hooks import connection as stored_connection

        return await asyncio.to_thread(stored_connection.load, self.conn_id, self.team)


async def by_account(scanned: Collection[ScannedRecord]) -> dict[Account, list[ScannedRecord]]:
    """Return records by the connection that each names.

    :param scanned: the records
    """
    teams = await asyncio.to_thread(airflow_internals.teams_of, {one.stored.dag_id for one in scanned})
    found: defaultdict[Account, list[ScannedRecord]] = defaultdict(list)
    for one in scanned:
        found[Account(one.record.firecrest_conn_id, teams.get(one.stored.dag_id))].append(one)
    return found
