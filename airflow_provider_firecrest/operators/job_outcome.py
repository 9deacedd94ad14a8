"""What a task does with its job when the job has ended: its output, its files, and what the task returns."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.job_metrics import MLflowSettings
from airflow_provider_firecrest.operators.job_fields import JobFields
from airflow_provider_firecrest.operators.job_files import JobFiles
from airflow_provider_firecrest.operators.job_story import JobStory
from airflow_provider_firecrest.triggers.transfer import FirecRESTTransferTrigger
from airflow_provider_firecrest.xcom import job_mapping

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.api.client import System
    from firecrest_core.jobs.job import Job
    from firecrest_core.result import JobResult
    from firecrest_core.transfer import Transferred


class JobOutcome(JobFields, JobFiles, JobStory):
    """An operator that returns how its job ended, and fails if the job did."""

    mlflow_conn_id: str | None
    ended_job: dict[str, Any] | None = None

    def finish(self, context: Context, event: dict[str, Any]) -> Any:
        """Log the end of the job's output, and fail if the job did.

        :param context: the task's
        :param event: the trigger's
        """
        from firecrest_core.errors import FirecRESTError
        from firecrest_core.result import JobResult

        account = None
        with suppress(FirecRESTError):  # the DAG was edited meanwhile
            account = self.job_spec().account  # another worker may have submitted: here too, secrets are hidden now
        result = JobResult.from_dict(event["result"])
        job = self.ended_job = job_mapping(result)
        owner = event["jobs"][-1]
        if "transfers" in event:
            return self._end(context, result, owner, event["transfers"])
        context["ti"].xcom_push(key="job", value=job)
        if event.get("metrics"):
            mlflow = MLflowSettings.of_task(context["ti"], self.mlflow_conn_id)
            self.finish_metrics(context, event, result, mlflow)
        trigger = FirecRESTTransferTrigger(
            transfers=self.hook.run(self._begin_outputs(context, result, account, event)),
            owner=owner,
            result=event["result"],
            firecrest_conn_id=self.firecrest_conn_id,
            poll_interval=self.poll_interval,
        )
        if trigger.transfer_jobs:
            return self.wait(context, trigger)
        return self._end(context, result, owner, trigger.transfers)

    async def _begin_outputs(
        self, context: Context, result: JobResult, account: str | None, event: dict[str, Any]
    ) -> list[dict[str, Any]]:
        async with self.hook.client() as client:
            system = client.system(result.system)
            if result.succeeded:
                await self.show_end_of_output(system, result, event)
                await self.push_return_value(context, system, result)
            return await self.begin_outputs(system, result, account)

    async def push_return_value(self, context: Context, system: System, result: JobResult) -> None:
        """Push what a job that ended well has left in its ``return.json``.

        :param context: the task's
        :param system: where the job ran
        :param result: how it ended
        """
        from firecrest_core.return_value import read_return_value

        if (returned := await read_return_value(system, result)) is not None:
            context["ti"].xcom_push(key="return", value=returned)

    def _end(self, context: Context, result: JobResult, owner: dict[str, Any], transfers: list[dict[str, Any]]) -> Any:
        """Fetch what transfer jobs have sent, and end the task. If the job failed, its files are fetched first."""

        async def end() -> tuple[list[Transferred], Any]:
            async with self.hook.client() as client:
                system = client.system(result.system)
                fetched = await self.finish_outputs(system, result, transfers)
                return fetched, await self.task_result(system, result, Job.from_dict(owner))

        from firecrest_core.jobs.job import Job

        fetched, returned = self.hook.run(end())
        self.report_files(context, result, fetched)
        return returned

    async def task_result(self, system: System, result: JobResult, job: Job) -> Any:
        """Return what the task returns for a job that has ended.

        :param system: where the job ran
        :param result: how it ended
        :param job: the job that was submitted
        :raises JobFailed: it did not end well
        """
        from firecrest_core import lifecycle

        if not result.succeeded:
            await lifecycle.raise_for_state(system, result, on_output=self.hook.log_output)
        return job_mapping(result)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return what OpenLineage says of the job. Airflow's provider for it asks this at the end of a task.

        :param task_instance: the task's
        """
        from airflow_provider_firecrest.openlineage import job_lineage

        return job_lineage(self.ended_job)
