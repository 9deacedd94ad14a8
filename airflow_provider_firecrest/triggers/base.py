"""What every FirecREST trigger shares: the connection, the deadline, and the form of its one event."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_firecrest import ledger
from airflow_provider_firecrest.exceptions import to_event
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.wish import ENDED, state_of
from firecrest_core.errors import FirecRESTError

if TYPE_CHECKING:
    from firecrest_core.client import FirecRESTClient
    from firecrest_core.connection import Connection

# An event loop alone does not keep a task from being collected.
_endings: set[asyncio.Task[None]] = set()


class FirecRESTTrigger(BaseTrigger):
    """Waits for something on a system and fires once.

    The event's ``status`` is ``done``, ``timeout`` (the deadline passed) or ``error`` (see
    :func:`airflow_provider_firecrest.exceptions.from_event`), and its ``jobs`` are those of :attr:`jobs`. Outages are
    waited out.

    :param firecrest_conn_id: an Airflow connection of the type ``firecrest``
    :param poll_interval: seconds between two questions at the most
    :param deadline: seconds since the epoch after which to stop waiting. A point in time and not a duration: a
        triggerer that is restarted begins anew with the same arguments.
    :param not_before: seconds since the epoch before which not to fire, however early the wait is over
    """

    def __init__(
        self,
        *,
        firecrest_conn_id: str,
        poll_interval: float,
        deadline: float | None = None,
        not_before: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.firecrest_conn_id = firecrest_conn_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.not_before = not_before

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and the constructor's arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "firecrest_conn_id": self.firecrest_conn_id,
            "poll_interval": self.poll_interval,
            "deadline": self.deadline,
            "not_before": self.not_before,
        }

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The jobs that belong to the task and end with it when a person, or a limit that a person set, ends it."""
        return []

    @cached_property
    def hook(self) -> FirecRESTHook:
        return FirecRESTHook(self.firecrest_conn_id)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire once, at the end."""
        event = await self.event()
        await asyncio.sleep((self.not_before or 0.0) - time.time())
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def event(self) -> dict[str, Any]:
        """Wait, and return the event's JSON. A worker that waits by itself calls this, too."""
        left = None if self.deadline is None else max(0.0, self.deadline - time.time())
        try:
            async with asyncio.timeout(left) as limit:
                return {"status": "done", "jobs": self.jobs, **await self.wait(await self.hook.aconnection())}
        except FirecRESTError as error:
            return to_event(error) | {"jobs": self.jobs}
        except TimeoutError:
            if not limit.expired():
                raise
            return {"status": "timeout", "jobs": self.jobs}

    @property
    def client_type(self) -> type[FirecRESTClient]:
        """Makes clients that take up a secret that was rotated since the wait began."""
        from airflow_provider_firecrest.hooks.client import client_type

        return client_type(self.firecrest_conn_id)

    @abstractmethod
    async def wait(self, connection: Connection) -> dict[str, Any]:
        """Wait for the end and return what the event says of it, in JSON types.

        The hook's client is not for triggers: Airflow would keep each of its tokens for masking as long as the
        triggerer lives.
        """

    async def on_kill(self) -> None:
        """Cancel the task's jobs if a person ended it.

        Airflow 3.3 calls this, too, when a triggerer loses its heartbeat and its triggers move to another one;
        then the task has not ended, and the jobs go on.
        """
        if not self.jobs:
            return
        ending = asyncio.create_task(self._end_jobs())
        _endings.add(ending)
        ending.add_done_callback(_endings.discard)
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                # Airflow 3.3 cancels a trigger anew each second until it is gone, its on_kill included.
                continue

    async def _end_jobs(self) -> None:
        try:
            wanted = await sync_to_async(state_of)(self.task_instance) in ENDED
        except Exception as error:
            self.log.error("Airflow does not say whether a person ended this task, so its jobs go on: %s", error)
            wanted = False
        for job in self.jobs:
            job_id, system = job["job_id"], job["system"]
            if not wanted:
                self.log.info("Job %s on %s goes on. To end it: scancel %s", job_id, system, job_id)
                continue
            try:
                async with self.client_type(await self.hook.aconnection()) as client:
                    await ledger.end(client, job)
                self.log.info("Job %s on %s was cancelled.", job_id, system)
            except FirecRESTError as error:
                self.log.error("Job %s on %s could not be cancelled (scancel %s): %s", job_id, system, job_id, error)
