"""What every FirecREST operator shares: where it speaks to, and how it waits."""

from __future__ import annotations

import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowTaskTimeout
from airflow.sdk.module_loading import import_string  # type: ignore[attr-defined]

from airflow_provider_firecrest import ledger
from airflow_provider_firecrest.exceptions import from_event
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.ledger import Entry, told
from airflow_provider_firecrest.wish import CLEARED, ENDED, state_of
from firecrest_core.errors import JobStuck

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_firecrest.triggers.base import FirecRESTTrigger
    from firecrest_core.client import FirecRESTClient

    _End = Callable[[FirecRESTClient, dict[str, Any]], Coroutine[Any, Any, None]]


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

    def defer(self, *, trigger: FirecRESTTrigger, **how: Any) -> NoReturn:  # type: ignore[override]
        """Defer until the trigger fires, but not before Airflow has heard that this worker is done.

        A worker may notice the end of its own process ``[workers] min_heartbeat_interval`` late (5 s), and Airflow 3.3
        takes a task that goes on by then for one that was killed (apache/airflow#72716).
        """
        from airflow.sdk.configuration import conf

        # Half as much again, for the scheduler to read it.
        trigger.not_before = time.time() + 1.5 * conf.getint("workers", "min_heartbeat_interval")
        super().defer(trigger=trigger, **how)


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
        self._context: Any = None

    def wait(self, context: Context, trigger: FirecRESTTrigger) -> Any:
        """Wait for the trigger's event, then go on in :meth:`execute_complete`.

        What :meth:`finish` needs goes with the trigger into its event: ``dag.test()`` drops all that a task keeps
        besides.
        """
        # The deadline goes with the trigger: Airflow does not keep execution_timeout while a task is deferred, and
        # defer(timeout=…) would end the task without anybody having cancelled the job.
        if self.execution_timeout is not None:
            trigger.deadline = context["ti"].start_date.timestamp() + self.execution_timeout.total_seconds()
        awaited = list(trigger.serialize())
        self.watch(context, trigger.jobs)
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete", kwargs={"awaited": awaited})
        trigger.hook = self.hook
        event = self.hook.run(trigger.event())
        return self.execute_complete(context, event, awaited)

    def watch(self, context: Context, jobs: list[dict[str, Any]]) -> None:
        """Note which jobs are to end with the task: here, and in Airflow for when this worker is no more."""
        if jobs:
            self._context, self._waiting_for = context, jobs
            Entry(self.firecrest_conn_id, context["ti"].max_tries, jobs).write(context)

    def end_earlier_run(self, context: Context) -> None:
        """End what the task had going when a person cleared it, and wait until it has ended.

        To be called before anything is submitted. Airflow starts the new try without waiting for the old one's end.
        """
        earlier = Entry.of(context)
        if earlier is None or earlier.max_tries == context["ti"].max_tries:
            return
        self._context, self._waiting_for = context, earlier.jobs
        hook = FirecRESTHook(earlier.firecrest_conn_id)
        self.log.info("The task was cleared: ending %s of its earlier run.", told(earlier.jobs))
        hook.run(self._end_jobs(hook, earlier.jobs, ledger.end_for_good))

    def execute_complete(self, context: Context, event: dict[str, Any], awaited: list[Any] | None = None) -> Any:
        """Go on after the wait.

        :param awaited: the trigger that this try waits for, serialized; ``dag.test()`` passes the event alone
        """
        trigger = import_string(awaited[0])(**awaited[1]) if awaited else None
        if trigger is not None and event["jobs"] != trigger.jobs:
            # A clear removes the old trigger's row, and SQLite gives its id to the new one: the end of the old job,
            # which this very try has cancelled, then arrives here.
            self.log.info("That was about %s of an earlier run; still waiting.", told(event["jobs"]))
            self.defer(trigger=trigger, method_name="execute_complete", kwargs={"awaited": awaited})
        if event["status"] == "timeout":
            self._give_up(context, event["jobs"])
        if event["status"] == "done" and event["jobs"]:
            self._waiting_for = []
            ledger.erase(context)
        if event["status"] == "error":
            error = from_event(event)
            if isinstance(error, JobStuck):  # nobody waits for it any more, so it must not begin one day
                self._cancel(event["jobs"], ledger.end)
            raise error from None
        return self.finish(context, event)

    @abstractmethod
    def finish(self, context: Context, event: dict[str, Any]) -> Any:
        """Return the task's result, or raise, once the wait is over."""

    def _give_up(self, context: Context, jobs: list[dict[str, Any]]) -> NoReturn:
        self._cancel_at_limit(context, jobs)
        raise AirflowTaskTimeout(f"execution_timeout ({self.execution_timeout}) has passed; cancelled {told(jobs)}.")

    def _cancel_at_limit(self, context: Context, jobs: list[dict[str, Any]]) -> None:
        """Cancel jobs whose try has taken too long. The limit is one try's: the next one, if any, may run them anew."""
        self._cancel(jobs, ledger.end if _is_last(context) else ledger.stop)

    def _cancel(self, jobs: list[dict[str, Any]], end: _End) -> None:
        self.hook.run(self._end_jobs(self.hook, jobs, end))
        self.log.info("Cancelled %s.", told(jobs))

    async def _end_jobs(self, hook: FirecRESTHook, jobs: list[dict[str, Any]], end: _End) -> None:
        async with hook.client() as client:
            for job in jobs:
                await end(client, job)

    def on_kill(self) -> None:
        """Cancel the jobs that this worker waits for, if a person or ``execution_timeout`` ended the task.

        Airflow calls this, too, when a worker is stopped; then the jobs go on, also where no try is left to adopt them.
        """
        jobs, self._waiting_for = self._waiting_for, []
        if not jobs:
            return
        if isinstance(sys.exception(), AirflowTaskTimeout):
            self._cancel_at_limit(self._context, jobs)
            return
        try:
            state = state_of(self._context["ti"])
        except Exception as error:
            # This runs in the midst of whatever the worker was doing. Was that a question to Airflow, another one is
            # refused (DeadlockImminentError).
            self.log.warning("Airflow does not say whether this task was ended: %s", error)
            self.log.info("If it was, the triggerer ends this: %s", told(jobs))
            return
        if state in ENDED:
            self._cancel(jobs, ledger.end)
        elif state == CLEARED:
            self.log.info("The task was cleared: its new try, or the triggerer, ends this: %s", told(jobs))
        else:
            self.log.info("Nobody ended this task, so this goes on: %s", told(jobs))
            if _is_last(self._context):
                ledger.erase(self._context)


def _is_last(context: Context) -> bool:
    """Whether no automatic retry can follow."""
    return context["ti"].try_number > context["ti"].max_tries
