"""The sensor that waits for a job that somebody else submitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import PokeReturnValue

from airflow_provider_firecrest.exceptions import task_error
from airflow_provider_firecrest.sensors.base import FirecRESTBaseSensor
from airflow_provider_firecrest.triggers.job import FirecRESTJobTrigger
from airflow_provider_firecrest.xcom import mapping

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.job import Job
    from firecrest_core.result import JobResult


class FirecRESTJobSensor(FirecRESTBaseSensor):
    """Wait until a job has ended well. The job is never cancelled: it belongs to whoever submitted it.

    :param job_id: the job's id
    :param fail_if_stuck: fail when the job can never start, instead of only warning with the reason
    :returns: the mapping that ``FirecRESTSubmitOperator`` returns
    :raises JobFailed: when the job ended otherwise than COMPLETED, with state, exit code and the last lines of its
        output, as far as this user may read them. No retry changes that, so the task is not tried again
    :raises JobNotFound: when the scheduler does not know it, without a retry, too
    """

    template_fields: Sequence[str] = (*FirecRESTBaseSensor.template_fields, "job_id")

    def __init__(self, *, job_id: str, fail_if_stuck: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.fail_if_stuck = fail_if_stuck

    def execute(self, context: Context) -> Any:
        if not self.deferrable:
            return super().execute(context)
        job = self.hook.run(self._find())
        trigger = FirecRESTJobTrigger(
            job=job.to_dict(),
            owned=False,
            fail_if_stuck=self.fail_if_stuck,
            firecrest_conn_id=self.firecrest_conn_id,
            poll_interval=self.poll_interval,
        )
        return self.wait(context, trigger)

    async def _find(self) -> Job:
        from firecrest_core import lifecycle

        async with self.hook.client() as client:
            system = client.connection.system_or_default(self.system)
            return await lifecycle.find(client, system, str(self.job_id))

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Ask once. A server that does not answer is asked again."""
        from firecrest_core.errors import TransientError, WaitTimedOut

        try:
            result = self.hook.wait(
                str(self.job_id), system=self.system, timeout=0, check=False, fail_if_stuck=self.fail_if_stuck
            )
        except WaitTimedOut:
            return False
        except TransientError as error:
            self.log.warning("Still waiting for job %s. %s", self.job_id, error)
            return False
        return PokeReturnValue(True, self._judge(result))

    def finish(self, event: dict[str, Any]) -> dict[str, Any]:
        from firecrest_core.result import JobResult

        return self._judge(JobResult.from_dict(event["result"]))

    def _judge(self, result: JobResult) -> dict[str, Any]:
        """Return a good end; tell a bad one with the job's last words, and let nobody retry."""
        from firecrest_core import lifecycle
        from firecrest_core.errors import JobFailed

        if result.succeeded:
            return mapping(result)
        stdout, stderr = self.hook.run(self._tails(result))
        try:
            lifecycle.check(result, stderr, stdout)
        except JobFailed as error:
            raise task_error(error, final=True) from None
        raise AssertionError("what has not succeeded has failed")

    async def _tails(self, result: JobResult) -> tuple[str, str]:
        from firecrest_core import lifecycle

        async with self.hook.client() as client:
            return await lifecycle.output_tail(client, result)
