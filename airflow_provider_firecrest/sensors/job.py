"""The sensor that waits for a job that somebody else submitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import PokeReturnValue

from airflow_provider_firecrest.exceptions import task_error
from airflow_provider_firecrest.links.job import CentreJobLink
from airflow_provider_firecrest.operators.base import checked_live_output
from airflow_provider_firecrest.sensors.base import FirecRESTBaseSensor
from airflow_provider_firecrest.triggers.job import FirecRESTJobTrigger
from airflow_provider_firecrest.xcom import job_mapping

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.jobs.job import Job
    from firecrest_core.result import JobResult


class FirecRESTJobSensor(FirecRESTBaseSensor):
    """Wait until a job is COMPLETED. The job is never cancelled: it belongs to whoever submitted it.

    :param job_id: the job's id
    :param fail_if_stuck: fail when the job can never start, instead of only warning with the reason
    :param live_output: show what the job prints while it runs, if this user may read it; as for
        ``FirecRESTSubmitOperator``. It takes ``deferrable``
    :returns: the mapping that ``FirecRESTSubmitOperator`` returns
    :raises JobFailed: when the job ended otherwise than COMPLETED, with state, exit code and the last lines of its
        output, as far as this user may read them. No retry changes that, so the task is not tried again
    :raises JobNotFound: when the scheduler does not know the job; this is not tried again either
    """

    template_fields: Sequence[str] = (*FirecRESTBaseSensor.template_fields, "job_id")
    operator_extra_links = (CentreJobLink(),)

    def __init__(
        self, *, job_id: str, fail_if_stuck: bool = False, live_output: bool | int = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.fail_if_stuck = fail_if_stuck
        self.live_output = checked_live_output(live_output)

    def execute(self, context: Context) -> Any:
        """Wait for the job.

        :param context: the task's
        """
        if not self.deferrable:
            return super().execute(context)
        job = self.hook.run(self._find())
        trigger = FirecRESTJobTrigger(
            job=job.to_dict(),
            owned=False,
            fail_if_stuck=self.fail_if_stuck,
            live_output=self.live_output,
            firecrest_conn_id=self.firecrest_conn_id,
            poll_interval=self.poll_interval,
        )
        return self.wait(context, trigger)

    async def _find(self) -> Job:
        from firecrest_core import lifecycle

        async with self.hook.client() as client:
            return await lifecycle.find(client.system(self.system), str(self.job_id))

    @property
    def awaited(self) -> str:
        """The end of the job."""
        return f"The end of job {self.job_id}"

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Ask once. A server that does not answer is asked again.

        :param context: the task's
        """
        from firecrest_core.errors import TransientError, WaitTimedOut

        try:
            result = self.hook.wait_for_job(
                str(self.job_id), system=self.system, timeout=0, check=False, fail_if_stuck=self.fail_if_stuck
            )
        except WaitTimedOut:
            return False
        except TransientError as error:
            self.log.warning("Still waiting for job %s. %s", self.job_id, error)
            return False
        return PokeReturnValue(True, self._check(result))

    def finish(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return how the job ended, or fail if it did.

        :param event: the trigger's
        """
        from firecrest_core.result import JobResult

        return self._check(JobResult.from_dict(event["result"]))

    def _check(self, result: JobResult) -> dict[str, Any]:
        if not result.succeeded:
            self.hook.run(self._fail(result))
        return job_mapping(result)

    async def _fail(self, result: JobResult) -> None:
        from firecrest_core import lifecycle
        from firecrest_core.errors import JobFailed

        async with self.hook.client() as client:
            try:
                await lifecycle.raise_for_state(client.system(result.system), result)
            except JobFailed as error:
                raise task_error(error, final=True) from None  # another try would find the same job
