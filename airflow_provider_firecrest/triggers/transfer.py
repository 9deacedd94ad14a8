"""The trigger that waits for a site's transfer jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.triggers.base import FirecRESTTrigger

if TYPE_CHECKING:
    from firecrest_core.connection import Connection


class FirecRESTTransferTrigger(FirecRESTTrigger):
    """Waits until some transfer jobs have ended. The operator checks whether the files arrived whole.

    The event holds the ``transfers`` and the ``result``, too.

    :param transfers: what was begun for each file (``firecrest_core.transfer.PendingTransfer.to_dict``), or what has
        arrived already, which has no ``job``
    :param owner: the job whose files they are, if a task fetches those of its own job. It has ended; it stays in the
        task's record, because its claim is removed when the task has ended
    :param result: how that job ended
    """

    def __init__(
        self,
        *,
        transfers: list[dict[str, Any]],
        owner: dict[str, Any] | None = None,
        result: dict[str, Any] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.transfers = transfers
        self.owner = owner
        self.result = result

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and the constructor's arguments."""
        path, arguments = super().serialize()
        return path, arguments | {"transfers": self.transfers, "owner": self.owner, "result": self.result}

    @property
    def transfer_jobs(self) -> list[dict[str, Any]]:
        """The transfer jobs."""
        return [transfer["job"] for transfer in self.transfers if "job" in transfer]

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The transfer jobs, and the job whose files they are."""
        return self.transfer_jobs + ([self.owner] if self.owner else [])

    async def wait(self, connection: Connection) -> dict[str, Any]:
        """Wait for one after the other: all of them have to end anyway.

        :param connection: where to ask, and as whom
        """
        from firecrest_core import lifecycle
        from firecrest_core.errors import JobNotFound
        from firecrest_core.jobs.job import Job

        async with self.client_type(connection) as client:
            for job in map(Job.from_dict, self.transfer_jobs):
                try:
                    await lifecycle.wait(
                        client.system(job.system),
                        job,
                        poll_interval=self.poll_interval,
                        on_message=self.log.info,
                        on_warning=self.warn,
                    )
                except JobNotFound:
                    self.log.info("%s on %s is no longer known to the scheduler.", job, job.system)
        return {"transfers": self.transfers, "result": self.result}
