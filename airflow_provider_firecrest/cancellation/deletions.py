"""Deletes the records of which nothing is left to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import StoredValue
from airflow_provider_firecrest.cancellation.record_sources import first_line
from airflow_provider_firecrest.cancellation.scan import ScannedRecord
from firecrest_core.pauses import Pauses

log = logging.getLogger(__name__)


class Deletions:
    """The records that are to be deleted. A database that cannot be written is said once, and tried again."""

    def __init__(self) -> None:
        self._waiting: set[StoredValue] = set()
        self._pauses = Pauses(3.0, 300.0)

    async def delete(self, records: Iterable[ScannedRecord]) -> None:
        """Delete records, now or when the database can be written again.

        :param records: the records
        """
        self._waiting |= {one.stored for one in records}
        await self.work()

    async def work(self) -> None:
        """Delete what is left, unless the database was tried a short time ago."""
        values = list(self._waiting)
        if not values or not self._pauses.is_due("writing"):
            return
        try:
            await asyncio.to_thread(airflow_internals.delete_stored_values, values)
        except Exception as error:
            log.log(
                logging.WARNING if self._pauses.failed("writing") else logging.DEBUG,
                "Airflow's database cannot be written, so the records of %d tasks whose jobs are settled stay there "
                "for now: %s",
                len(values),
                first_line(error),
            )
        else:
            self._waiting.difference_update(values)
            if self._pauses.succeeded("writing"):
                log.info("Airflow's database can be written again.")
