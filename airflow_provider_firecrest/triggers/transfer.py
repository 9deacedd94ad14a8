"""The trigger that waits for a site's transfer jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.triggers.base import FirecRESTTrigger

if TYPE_CHECKING:
    from firecrest_core.connection import Connection


class FirecRESTTransferTrigger(FirecRESTTrigger):
    """Waits until some transfer jobs have ended. Whether the files arrived whole is the operator's to see.

    The event holds what was ``begun``, too.

    :param begun: for each file what was begun (``firecrest_core.transfer.PendingTransfer.to_dict``) or is done
        already, which has no ``job``
    """

    def __init__(self, *, begun: list[dict[str, Any]], **common: Any) -> None:
        super().__init__(**common)
        self.begun = begun

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and the constructor's arguments."""
        path, arguments = super().serialize()
        return path, arguments | {"begun": self.begun}

    @property
    def jobs(self) -> list[dict[str, Any]]:
        return [one["job"] for one in self.begun if "job" in one]

    async def wait(self, connection: Connection) -> dict[str, Any]:
        """Wait for one after the other: all of them have to end anyway."""
        from firecrest_core.errors import JobNotFound
        from firecrest_core.job import Job
        from firecrest_core.watcher import JobWatcher

        for job in map(Job.from_dict, self.jobs):
            try:
                watcher = JobWatcher.shared(connection, job.system, self.client_type)
                await watcher.wait(job, poll_interval=self.poll_interval, story=self.log.info)
            except JobNotFound:
                self.log.info("%s on %s is no longer known to the scheduler.", job, job.system)
        return {"begun": self.begun}
