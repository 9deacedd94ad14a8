"""What every FirecREST trigger shares: the connection, the deadline, and the form of its one event."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_firecrest.cancel_policy import ask_cancel_reason
from airflow_provider_firecrest.exceptions import to_event
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.job_records import describe_jobs
from firecrest_core.errors import FirecRESTError

if TYPE_CHECKING:
    from firecrest_core.api.client import FirecRESTClient
    from firecrest_core.connection import Connection

# An event loop alone does not keep a task from being collected.
_cancelling: set[asyncio.Task[None]] = set()


class FirecRESTTrigger(BaseTrigger):
    """Waits for something on a system and fires once.

    The event's ``status`` is ``success``, ``timeout`` (the deadline passed) or ``error`` (see
    :func:`airflow_provider_firecrest.exceptions.from_event`). Its ``jobs`` are those of :attr:`jobs`. Outages are
    waited out.

    :param firecrest_conn_id: an Airflow connection of the type ``firecrest``
    :param poll_interval: seconds between two questions at the most
    :param deadline: Unix time after which to stop waiting. It is a point in time and not a duration, because a
        triggerer that is restarted begins anew with the same arguments
    :param not_before: Unix time before which not to fire, even if the wait is over earlier
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
        """The hook of the task's connection."""
        return FirecRESTHook(self.firecrest_conn_id)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire once, at the end."""
        event = await self.event()
        await asyncio.sleep((self.not_before or 0.0) - time.time())
        await self.hold_back(event)
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def hold_back(self, event: dict[str, Any]) -> None:
        """Wait while the event must not be fired, although the wait itself is over."""

    async def event(self) -> dict[str, Any]:
        """Wait, and return the event's JSON. A worker that waits by itself calls this, too."""
        left = None if self.deadline is None else max(0.0, self.deadline - time.time())
        try:
            async with asyncio.timeout(left) as limit:
                told = await self.wait(await self.hook.aconnection())
                return {"status": "success", "jobs": self.jobs, **told}
        except FirecRESTError as error:
            return to_event(error) | {"jobs": self.jobs}
        except TimeoutError:
            if not limit.expired():
                raise
            return {"status": "timeout", "jobs": self.jobs}

    @property
    def client_type(self) -> type[FirecRESTClient]:
        """The type of clients that take the newest secret, if it was rotated since the wait began."""
        from airflow_provider_firecrest.hooks.client import client_type

        return client_type(self.firecrest_conn_id)

    def warn(self, line: str) -> None:
        """Warn in the task's log of what keeps a job from starting, and say how to end it.

        :param line: which job, and why
        """
        how = "mark the task as failed" if self.jobs else "cancel the job, and this task fails"
        self.log.warning("%s To end it, %s.", line, how)

    @abstractmethod
    async def wait(self, connection: Connection) -> dict[str, Any]:
        """Wait for the end and return what the event says of it, in JSON types.

        The hook's client is not for triggers: Airflow would keep each of its tokens for masking as long as the
        triggerer lives.

        :param connection: where to ask, and as whom
        """

    async def on_kill(self) -> None:
        """Cancel the task's jobs if a person ended it.

        Airflow 3.3 also calls this when a triggerer loses its heartbeat and its triggers move to another one. Then the
        task has not ended, and the jobs go on.
        """
        if not self.jobs:
            return
        cancelling = asyncio.create_task(self._cancel_if_ended())
        _cancelling.add(cancelling)
        cancelling.add_done_callback(_cancelling.discard)
        while not cancelling.done():
            try:
                await asyncio.shield(cancelling)
            except asyncio.CancelledError:
                # Airflow 3.3 cancels a trigger anew each second until it is gone, its on_kill included.
                continue

    async def _cancel_if_ended(self) -> None:
        try:
            # In a thread: Airflow's call blocks until its supervisor has answered, over this very event loop.
            reason = await asyncio.to_thread(ask_cancel_reason, self.task_instance)
        except Exception as error:
            self.log.error("Airflow does not say whether a person ended this task, so its jobs go on: %s", error)
            reason = None
        for job in self.jobs:
            if reason is not None and reason.final:
                await self._cancel(job)
            elif job["job_id"]:
                # Airflow tells a trigger neither that its task was cleared nor that it moves to another triggerer.
                self.log.info(
                    "This triggerer no longer waits for %s. If the task was cleared, its new run cancels the job; "
                    "otherwise another triggerer goes on waiting for it.",
                    describe_jobs([job]),
                )

    async def _cancel(self, job: dict[str, Any]) -> None:
        from firecrest_core import lifecycle
        from firecrest_core.jobs.job import Job

        name = describe_jobs([job])
        try:
            # Thousands of tasks may end at once.
            await lifecycle.cancel_together(await self.hook.aconnection(), Job.from_dict(job), self.client_type)
            self.log.info("Cancelled %s.", name)
        except FirecRESTError as error:
            by_hand = f" (scancel {job['job_id']})" if job["job_id"] else ""
            self.log.error("Could not cancel %s%s: %s", name, by_hand, error)
