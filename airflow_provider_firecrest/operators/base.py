"""What every FirecREST operator shares: its connection, and how it waits."""

from __future__ import annotations

import pkgutil
import time
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_firecrest.exceptions import from_event
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.hooks.job_ending import cancel_at_limit, cancel_each, cancel_jobs, end_with_task
from airflow_provider_firecrest.job_records import (
    JobRecord,
    RecordRefused,
    delete_record,
    describe_jobs,
    read_earlier,
    same_jobs,
)
from firecrest_core.errors import ConfigurationError, JobStuck

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_firecrest.triggers.base import FirecRESTTrigger


class FirecRESTBaseOperator(BaseOperator):
    """An operator that uses a FirecREST.

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
        """The hook of the task's connection."""
        return FirecRESTHook(self.firecrest_conn_id)

    def defer(self, *, trigger: FirecRESTTrigger, **how: Any) -> NoReturn:  # type: ignore[override]
        """Defer until the trigger fires, but not before Airflow has heard that this worker is done.

        A worker may notice the end of its own process ``[workers] min_heartbeat_interval`` late (5 s). Airflow 3.3
        takes a task that runs again by then for one that was killed (apache/airflow#72716).

        :param trigger: what to wait for
        :param how: as for any operator
        """
        from airflow.sdk import conf

        # Half as much again, for the scheduler to read it.
        trigger.not_before = time.time() + 1.5 * conf.getint("workers", "min_heartbeat_interval")
        super().defer(trigger=trigger, **how)


def checked_poll_interval(seconds: float) -> float:
    """Return the argument ``poll_interval`` of an operator or a sensor, which is refused when the DAG is parsed.

    :param seconds: what was given
    :raises ConfigurationError: it is no number of seconds
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise ConfigurationError(f"poll_interval is {seconds!r}: give a number of seconds")
    return seconds


def checked_live_output(wanted: bool | int) -> bool | int:
    """Return the argument ``live_output`` of an operator or a sensor, which is refused when the DAG is parsed.

    :param wanted: what was given
    :raises ConfigurationError: it is neither a truth value nor an index
    """
    if not isinstance(wanted, int) or wanted < 0:
        raise ConfigurationError(f"live_output is {wanted!r}: give True, False, or the index of an array's element")
    return wanted


class FirecRESTWaitingOperator(FirecRESTBaseOperator):
    """An operator that waits for jobs, in the triggerer or in its worker; both run the same trigger.

    ``execution_timeout`` holds in both, and cancels the jobs.

    :param deferrable: wait in the triggerer, where thousands of jobs share one process (the default: queues take
        hours); ``False`` holds the worker's slot
    :param poll_interval: seconds between two questions at the most; a young job is asked for more often
    """

    def __init__(self, *, deferrable: bool = True, poll_interval: float = 10.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable
        self.poll_interval = checked_poll_interval(poll_interval)
        self._waiting_for: list[dict[str, Any]] = []
        self._context: Any = None

    def wait(self, context: Context, trigger: FirecRESTTrigger) -> Any:
        """Wait for the trigger's event, then go on in :meth:`execute_complete`.

        What :meth:`finish` needs is passed through the trigger into its event: ``dag.test()`` drops everything else
        that a task keeps while it is deferred.

        :param context: the task's
        :param trigger: what to wait for
        """
        # The trigger keeps the deadline, because Airflow does not keep execution_timeout while a task is deferred, and
        # defer(timeout=…) would end the task without anybody having cancelled the job.
        if self.execution_timeout is not None:
            trigger.deadline = context["ti"].start_date.timestamp() + self.execution_timeout.total_seconds()
        awaited = list(trigger.serialize())
        self.record_jobs(context, trigger.jobs)
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete", kwargs={"awaited": awaited})
        trigger.hook = self.hook
        event = self.hook.run(trigger.event())
        return self.execute_complete(context, event, awaited)

    def own_jobs(self, context: Context, jobs: list[dict[str, Any]]) -> None:
        """Let jobs end with the task while this worker lives.

        :param context: the task's
        :param jobs: as ``Job.to_dict`` gives them
        """
        self._context, self._waiting_for = context, jobs

    def record_jobs(self, context: Context, jobs: list[dict[str, Any]]) -> None:
        """Record which jobs are to end with the task: here, and in Airflow for when this worker is no more.

        :param context: the task's
        :param jobs: as ``Job.to_dict`` gives them
        """
        if jobs:
            self.own_jobs(context, jobs)
            self._write(context, jobs)

    def _write(self, context: Context, jobs: list[dict[str, Any]], *, ended: bool = False) -> None:
        record = JobRecord(self.firecrest_conn_id, context["ti"].max_tries, jobs, ended)
        record.write(context, self.hook.connection())

    def _record_end(self, context: Context, jobs: list[dict[str, Any]]) -> None:
        """Record that the jobs have ended; the triggerer removes their claims when the task's end is on record, too."""
        if claimed := [job for job in jobs if job["key"]]:
            self._write(context, claimed, ended=True)
        else:
            delete_record(context)

    def cancel_earlier_run(self, context: Context) -> bool:
        """If a person has cleared the task, cancel the jobs of its earlier run, and wait until they have ended.

        This has to be called before anything is submitted: Airflow starts the new try without waiting for the old one.

        :param context: the task's
        :returns: ``False`` if nobody can say whether there are such jobs, because their record cannot be believed
        """
        from firecrest_core import lifecycle

        try:
            earlier = read_earlier(context, lambda conn_id: FirecRESTHook(conn_id).connection())
        except RecordRefused as error:
            self.log.warning("%s", error)
            return False
        if earlier is None:
            return True
        hook = FirecRESTHook(earlier.firecrest_conn_id)
        self.own_jobs(context, earlier.jobs)
        self.log.info("The task was cleared: cancelling %s of its earlier run.", describe_jobs(earlier.jobs))
        hook.run(cancel_each(hook, earlier.jobs, lifecycle.cancel_and_wait))
        return True

    def execute_complete(self, context: Context, event: dict[str, Any], awaited: list[Any] | None = None) -> Any:
        """Go on after the wait.

        :param context: the task's
        :param event: the trigger's
        :param awaited: the trigger that this try waits for, serialized; ``dag.test()`` passes the event alone
        """
        trigger = pkgutil.resolve_name(awaited[0])(**awaited[1]) if awaited else None
        if trigger is not None and not same_jobs(event["jobs"], trigger.jobs):
            # A clear deletes the row of the old trigger, and SQLite gives its id to the new one. Then the end of the
            # old job, which this very try has cancelled, arrives here.
            self.log.info("That was about %s of an earlier run; still waiting.", describe_jobs(event["jobs"]))
            self.defer(trigger=trigger, method_name="execute_complete", kwargs={"awaited": awaited})
        self.tell(context, event)
        if event["status"] == "timeout":
            self._give_up(context, event)
        if event["status"] == "success" and event["jobs"]:
            self._waiting_for = []
            self._record_end(context, event["jobs"])
        if event["status"] == "error":
            error = from_event(event)
            if isinstance(error, JobStuck):  # nobody waits for it any more, so it must not begin one day
                cancel_jobs(self.hook, event["jobs"])
            raise error from None
        return self.finish(context, event)

    def tell(self, context: Context, event: dict[str, Any]) -> None:
        """Say in the task's log what has happened during the wait; nothing, unless an operator says what.

        :param context: the task's
        :param event: the trigger's
        """

    @abstractmethod
    def finish(self, context: Context, event: dict[str, Any]) -> Any:
        """Return the task's result, or raise, once the wait is over.

        :param context: the task's
        :param event: the trigger's
        """

    def tell_cancelled(self, context: Context, event: dict[str, Any], why: str) -> None:
        """Show that the jobs were cancelled when the wait was over; nothing, unless an operator says how.

        :param context: the task's
        :param event: the trigger's
        :param why: what has happened, as the beginning of a sentence
        """

    def _give_up(self, context: Context, event: dict[str, Any]) -> NoReturn:
        jobs = event["jobs"]
        cancel_at_limit(self.hook, context, jobs)
        self.tell_cancelled(context, event, f"execution_timeout ({self.execution_timeout}) has passed")
        raise AirflowTaskTimeout(
            f"execution_timeout ({self.execution_timeout}) has passed; cancelled {describe_jobs(jobs)}."
        )

    def on_kill(self) -> None:
        """Cancel the jobs that this worker waits for, if a person or ``execution_timeout`` ended the task.

        Airflow also calls this when a worker is stopped. Then the jobs go on, even if no try is left to adopt them.
        """
        jobs, self._waiting_for = self._waiting_for, []
        if jobs:
            end_with_task(self.hook, self._context, jobs, forget=lambda: delete_record(self._context))
