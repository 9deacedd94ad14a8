"""What every FirecREST operator shares: where it speaks to, and how it waits."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowTaskTimeout
from airflow.sdk.module_loading import import_string  # type: ignore[attr-defined]

from airflow_provider_firecrest.claim import end
from airflow_provider_firecrest.exceptions import from_event
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.wish import RUNNING, person_ended
from firecrest_core.errors import JobStuck

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_firecrest.triggers.base import FirecRESTTrigger


class FirecRESTBaseOperator(BaseOperator):
    """An operator that speaks to a FirecREST.

    :param system: the system (cluster), for example ``daint``; the connection's default system if left out
    :param firecrest_conn_id: an Airflow connection of the type ``firecrest``
    """

    template_fields: Sequence[str] = ("system", "firecrest_conn_id")
    ui_color: str = "#dbe9f4"

    def __init__(
        self,
        *,
        system: str | None = None,
        firecrest_conn_id: str = FirecRESTHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.system = system
        self.firecrest_conn_id = firecrest_conn_id

    @cached_property
    def hook(self) -> FirecRESTHook:
        return FirecRESTHook(self.firecrest_conn_id)


class FirecRESTWaitingOperator(FirecRESTBaseOperator):
    """An operator that waits for jobs, in the triggerer or in its worker; both run the same trigger.

    ``execution_timeout`` is kept in both, and cancels the jobs.

    :param deferrable: wait in the triggerer, where thousands of jobs share one process (the default: queues take
        hours); ``False`` holds the worker's slot
    :param poll_interval: seconds between two questions at the most; a young job is asked for more often
    """

    def __init__(self, *, deferrable: bool = True, poll_interval: float = 10.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self._waiting_for: list[dict[str, Any]] = []
        self._ti: Any = None

    def wait(self, context: Context, trigger: FirecRESTTrigger, **kept: Any) -> Any:
        """Wait for the trigger's event, then go on in :meth:`execute_complete`.

        :param kept: what :meth:`finish` needs besides the event, in JSON types
        """
        # The deadline goes with the trigger: Airflow does not keep execution_timeout while a task is deferred, and
        # defer(timeout=…) would end the task without anybody having cancelled the job.
        if self.execution_timeout is not None:
            trigger.deadline = context["ti"].start_date.timestamp() + self.execution_timeout.total_seconds()
        awaited = list(trigger.serialize())
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete", kwargs={"awaited": awaited, **kept})
        trigger.hook = self.hook
        self.watch(context, trigger.jobs)
        event = self.hook.run(trigger.event())
        self.watch(context, [])
        return self.execute_complete(context, event, awaited, **kept)

    def watch(self, context: Context, jobs: list[dict[str, Any]]) -> None:
        """Note which jobs are to end with the task, while this worker is busy with them."""
        self._ti, self._waiting_for = context["ti"], jobs

    def execute_complete(
        self, context: Context, event: dict[str, Any], awaited: list[Any] | None = None, **kept: Any
    ) -> Any:
        """Go on after the wait.

        :param awaited: the trigger that this try waits for, serialized; ``dag.test()`` passes the event alone
        """
        trigger = import_string(awaited[0])(**awaited[1]) if awaited else None
        if trigger is not None and event["jobs"] != trigger.jobs:
            # A clear removes the old trigger's row, and SQLite gives its id to the new one: the end of the old job,
            # which this very try has cancelled, then arrives here.
            self.log.info("That was about %s of an earlier run; still waiting.", _told(event["jobs"]))
            self.defer(trigger=trigger, method_name="execute_complete", kwargs={"awaited": awaited, **kept})
        if event["status"] == "timeout":
            self._give_up(event["jobs"])
        if event["status"] == "error":
            error = from_event(event)
            if isinstance(error, JobStuck):  # nobody waits for it any more, so it must not begin one day
                self._cancel(event["jobs"])
            raise error from None
        return self.finish(context, event, **kept)

    @abstractmethod
    def finish(self, context: Context, event: dict[str, Any], **kept: Any) -> Any:
        """Return the task's result, or raise, once the wait is over."""

    def _give_up(self, jobs: list[dict[str, Any]]) -> NoReturn:
        self._cancel(jobs)
        raise AirflowTaskTimeout(f"execution_timeout ({self.execution_timeout}) has passed; cancelled {_told(jobs)}.")

    def _cancel(self, jobs: list[dict[str, Any]]) -> None:
        self.hook.run(self._end_jobs(jobs))
        self.log.info("Cancelled %s.", _told(jobs))

    async def _end_jobs(self, jobs: list[dict[str, Any]]) -> None:
        from firecrest_core.job import Job

        async with self.hook.client() as client:
            for job in jobs:
                await end(client, Job.from_dict(job))

    def on_kill(self) -> None:
        """Cancel the jobs that this worker waits for, if a person or ``execution_timeout`` ended the task.

        Airflow calls this, too, when a worker is stopped; then the jobs go on.
        """
        jobs, self._waiting_for = self._waiting_for, []
        if not jobs:
            return
        limit_passed = isinstance(sys.exception(), AirflowTaskTimeout)
        if limit_passed or person_ended(self._ti, RUNNING):
            self._cancel(jobs)
        else:
            self.log.info("Nobody ended this task, so this goes on: %s", _told(jobs))


def _told(jobs: list[dict[str, Any]]) -> str:
    return ", ".join(f"job {job['job_id'] or 'without an id yet'} on {job['system']}" for job in jobs)
