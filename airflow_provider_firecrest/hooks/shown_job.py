"""What one sees in Airflow's UI of a job that a task's own function has submitted: what one sees of an operator's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.identity import task_key
from airflow_provider_firecrest.job_snapshots import SNAPSHOT_KEY, keep_ended, signed
from airflow_provider_firecrest.newest_xcom import NewestXCom

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
    from firecrest_core.jobs.history import JobHistory
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.snapshot import JobSnapshot
    from firecrest_core.spec.jobspec import JobSpec


class ShownJob(NewestXCom["JobSnapshot"]):
    """Stores the newest snapshot of a call's job, in an XCom of its own.

    :param context: the task's
    :param hook: whose call it is
    :param name: what tells the call from others of the task
    :param job: the job that was submitted or found
    :param spec: what was asked for
    :param ask: asks Airflow something in a thread of its own
    """

    def __init__(
        self,
        context: Context,
        hook: FirecRESTHook,
        name: str,
        job: Job,
        spec: JobSpec,
        ask: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        from firecrest_core.jobs.history import submitted

        super().__init__(context["ti"], f"{SNAPSHOT_KEY}.{name}")
        self._context, self._hook, self._ask = context, hook, ask
        self._newest = submitted(job, spec, connection_id=hook.firecrest_conn_id)

    async def begin(self) -> None:
        """Store the first snapshot."""
        await self.store(self._newest)

    @asynccontextmanager
    async def waited_for(self) -> AsyncIterator[JobHistory]:
        """Store each change while a wait feeds the history, and at last how the job ended."""
        from firecrest_core.jobs.history import JobHistory

        history = JobHistory(self._newest, self.show)
        yield history
        # Not after an error: a task that is being killed asks Airflow other things.
        await self.finish()
        self._newest = ended = history.snapshot
        await self.store(ended)
        await self._ask(lambda: keep_ended(self._context, ended, self._hook.connection()))

    async def to_json(self, value: JobSnapshot) -> dict[str, Any]:
        """Return the signed snapshot.

        :param value: the snapshot
        """
        connection = await self._ask(self._hook.connection)
        return signed(value, connection, task_key(self.ti)).to_dict()

    async def push(self, value: Any) -> None:
        """Store a value as a worker does.

        :param value: in JSON types
        """
        await self._ask(lambda: self.ti.xcom_push(key=self.key, value=value))
