"""What a task tells of its job: the snapshots for Airflow's pages, and the history in the task's own log."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.job_metrics import MLflowSettings, push_metrics
from airflow_provider_firecrest.job_snapshots import keep_ended, push
from airflow_provider_firecrest.links.job import CentreJobLink, HPCJobLink, push_links
from airflow_provider_firecrest.operators.base import FirecRESTWaitingOperator
from airflow_provider_firecrest.triggers.job import log_lines

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.api.client import System
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.snapshot import JobSnapshot
    from firecrest_core.metrics import Metrics
    from firecrest_core.result import JobResult
    from firecrest_core.spec.jobspec import JobSpec


class JobStory(FirecRESTWaitingOperator):
    """An operator that shows its job, from the submission to the end, and links to it."""

    operator_extra_links = (HPCJobLink(), CentreJobLink())

    def show_submitted(self, context: Context, job: Job, spec: JobSpec | None) -> None:
        """Store the first snapshot of the job.

        :param context: the task's
        :param job: the job that was submitted or found
        :param spec: what was asked for, if that is known here
        """
        from firecrest_core.jobs.history import submitted

        snapshot = submitted(job, spec, connection_id=self.firecrest_conn_id)
        push(context["ti"], snapshot, self.hook.connection())
        if not self.deferrable:  # else Airflow stores them when the task defers
            push_links(context["ti"], snapshot, self.hook.connection().job_url)

    def show_next_job(self, context: Context, job: Job) -> None:
        """Store which job follows another one, in a worker that waits by itself.

        :param context: the task's
        :param job: the job that was submitted
        """
        context["ti"].xcom_push(key="job_id", value=job.job_id)
        self.show_submitted(context, job, None)
        self.own_jobs(context, [job.to_dict()])

    def tell(self, context: Context, event: dict[str, Any]) -> None:
        """Log the job's history, and store how it ended.

        With remote logging, the log of the trigger may not be shown any more once the task has ended.

        :param context: the task's
        :param event: the trigger's
        """
        from firecrest_core.jobs.history import story
        from firecrest_core.jobs.snapshot import JobSnapshot

        if "snapshot" not in event:
            return
        *earlier, last = map(JobSnapshot.from_dict, [*event.get("earlier", ()), event["snapshot"]])
        for snapshot in (*earlier, last):
            for line in story(snapshot):
                self.log.info("%s", line)
        for snapshot in earlier:  # whoever has waited has stored them for this try
            keep_ended(context, snapshot, self.hook.connection())
        self._store(context, last)

    def _store(self, context: Context, snapshot: JobSnapshot) -> None:
        push(context["ti"], snapshot, self.hook.connection())
        if snapshot.state.ended:
            keep_ended(context, snapshot, self.hook.connection())

    def finish_metrics(
        self, context: Context, event: dict[str, Any], result: JobResult, mlflow: MLflowSettings
    ) -> None:
        """Read the whole metrics file of an ended job, store what it holds, and send MLflow what it lacks.

        :param context: the task's
        :param event: the trigger's, with the path of the file and the job's snapshot
        :param result: how the job ended
        :param mlflow: the MLflow that gets them
        """
        from firecrest_core.job_metrics import JobMetrics
        from firecrest_core.jobs.job import Job
        from firecrest_core.jobs.snapshot import JobSnapshot

        def on_metrics(metrics: Metrics) -> None:
            push_metrics(context["ti"], result.job_id, metrics)
            snapshot = replace(JobSnapshot.from_dict(event["snapshot"]), metrics=metrics.summary())
            push(context["ti"], snapshot, self.hook.connection())

        async def finish() -> None:
            async with self.hook.client() as client:
                await taken.finish(client.system(result.system), event["metrics"], result, self.log.warning)

        run = mlflow.run(Job(system=result.system, job_id=result.job_id, name=result.name))
        taken = JobMetrics(partial(self.log.info, "metrics | %s"), on_metrics, run)
        self.hook.run(finish())

    def tell_cancelled(self, context: Context, event: dict[str, Any], why: str) -> None:
        """Store that the job was cancelled with its try: the next one removes what this one has shown.

        :param context: the task's
        :param event: the trigger's
        :param why: what has happened, as the beginning of a sentence
        """
        from firecrest_core.jobs.history import cancelled
        from firecrest_core.jobs.snapshot import JobSnapshot

        if "snapshot" in event:
            self._store(context, cancelled(JobSnapshot.from_dict(event["snapshot"]), why))

    async def show_end_of_output(self, system: System, result: JobResult, event: dict[str, Any]) -> None:
        """Log the end of the output of a job that ended well, without what was shown while it ran.

        :param system: where it ran
        :param result: how it ended
        :param event: the trigger's
        """
        from firecrest_core import lifecycle
        from firecrest_core.follow.live_output import show_rest, shown_output

        shown = shown_output(event.get("output", []))
        await show_rest(system, shown, partial(log_lines, self.log), self.log.info)
        known = {one.path for one in shown}

        def log_output(path: str, tail: str) -> None:
            if path not in known:
                self.hook.log_output(path, tail)

        if not known.issuperset(filter(None, result.output_paths())):
            await lifecycle.raise_for_state(system, result, on_output=log_output)
