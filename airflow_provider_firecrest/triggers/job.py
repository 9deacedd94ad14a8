"""The trigger that waits for a job and those that follow it, and submits it first if there was no room for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.airflow_internals import push_xcom
from airflow_provider_firecrest.cancel_policy import is_awaited
from airflow_provider_firecrest.job_metrics import MLflowSettings, NewestMetrics
from airflow_provider_firecrest.job_records import describe_jobs
from airflow_provider_firecrest.job_snapshots import NewestSnapshot, apush_followed, aread
from airflow_provider_firecrest.links.job import apush_links
from airflow_provider_firecrest.triggers.base import FirecRESTTrigger

if TYPE_CHECKING:
    from firecrest_core.api.client import System
    from firecrest_core.campaign import Campaign
    from firecrest_core.connection import Connection
    from firecrest_core.follow.live_metrics import LiveMetrics
    from firecrest_core.follow.live_output import LiveOutput
    from firecrest_core.job_metrics import JobMetrics
    from firecrest_core.jobs.history import JobHistory
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.snapshot import JobSnapshot
    from firecrest_core.jobs.status import JobStatus
    from firecrest_core.metrics import Metrics
    from firecrest_core.result import JobResult

# How often, and how far apart in seconds, it is checked whether a task waits for a job that was cancelled.
_CHECKS = 6
_BETWEEN_CHECKS = 5.0


def log_lines(log: Any, stream: str, lines: list[str]) -> None:
    """Log lines that a job has printed.

    :param log: the task's log
    :param stream: ``out`` or ``err``
    :param lines: the lines
    """
    for line in lines:
        log.info("%s | %s", stream, line)


class FirecRESTJobTrigger(FirecRESTTrigger):
    """Waits for a job's end, and for those of the jobs that follow it, and logs each change of their states.

    Where another job follows, it submits that one. One trigger waits from the first submission to the last end:
    deferring again would cut Airflow's log of the trigger short. The event holds the ``result`` of the last job and, if
    it belongs to the task, the ``snapshot`` with its history and those of the jobs before it, ``earlier``; Airflow has
    the newest snapshot as an XCom meanwhile.

    :param job: the job, as ``firecrest_core.jobs.job.Job.to_dict`` gives it
    :param owned: the job belongs to the task and ends with it; ``False`` for one that somebody else submitted
    :param fail_if_stuck: fire with ``JobStuck`` when the job can never start, instead of only warning
    :param submission: what to submit, as :func:`firecrest_core.spec.sealing.seal` gives it: once the limit on submitted
        jobs has room, if the job has no id yet, and where another job follows. The job has a key, so that a triggerer
        that goes on with this finds the one that was last
    :param escalate: the policy that says which job follows, as :meth:`firecrest_core.escalation.Escalation.parse` reads
        it; only with a ``submission``
    :param chain: the chain that the job belongs to, as :meth:`firecrest_core.chain.Chain.to_dict` gives it; likewise
    :param alternatives: the shapes in which the job is submitted, as
        :meth:`firecrest_core.spec.alternatives.Alternatives.to_list` gives them; likewise
    :param live_output: show in the log what the job prints while it runs; of an array, the element with this index
    :param secrets: the job's secrets, as :func:`firecrest_core.spec.sealing.seal_secrets` gives them, which its output
        must not show
    :param metrics: absolute path of the file to which the job writes its metrics; of a race across file systems, as it
        is at home
    :param mlflow: the MLflow that gets them, as ``dataclasses.asdict`` gives
        :class:`~airflow_provider_firecrest.job_metrics.MLflowSettings`
    :ivar on_snapshot: stores each snapshot of the job, set by a worker that waits by itself
    :ivar on_metrics: stores the metrics of a job with this id, set by such a worker
    :ivar on_followed: stores the last snapshot of a job that another one has followed, set by such a worker
    :ivar on_next_job: stores which job follows, set by such a worker
    """

    def __init__(
        self,
        *,
        job: dict[str, Any],
        owned: bool = True,
        fail_if_stuck: bool = False,
        submission: dict[str, Any] | None = None,
        escalate: dict[str, Any] | None = None,
        chain: dict[str, Any] | None = None,
        alternatives: list[dict[str, Any]] | None = None,
        live_output: bool | int = False,
        secrets: str | None = None,
        metrics: str | None = None,
        mlflow: dict[str, Any] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.job = job
        self.owned = owned
        self.fail_if_stuck = fail_if_stuck
        self.submission = submission
        self.escalate = escalate
        self.chain = chain
        self.alternatives = alternatives
        self.live_output = live_output
        self.secrets = secrets
        self.metrics = metrics
        self.mlflow = mlflow
        self.on_metrics: Callable[[str, Metrics], None] | None = None
        self.on_followed: Callable[[JobSnapshot], None] | None = None
        self.on_next_job: Callable[[Job], None] | None = None
        self.on_snapshot: Callable[[JobSnapshot], None] | None = None
        self._history: JobHistory | None = None
        self._earlier: list[JobSnapshot] = []
        self._job_url = ""

    def __repr__(self) -> str:
        """Name the job. The script and the environment of a submission are not for logs."""
        return f"<{type(self).__qualname__} {self.firecrest_conn_id} {self.job['system']} {self.job['job_id']}>"

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and the constructor's arguments."""
        path, arguments = super().serialize()
        return path, arguments | {
            "job": self.job,
            "owned": self.owned,
            "fail_if_stuck": self.fail_if_stuck,
            "submission": self.submission,
            "escalate": self.escalate,
            "chain": self.chain,
            "alternatives": self.alternatives,
            "live_output": self.live_output,
            "secrets": self.secrets,
            "metrics": self.metrics,
            "mlflow": self.mlflow,
        }

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The job, if it belongs to the task."""
        return [self.job] if self.owned else []

    async def hold_back(self, event: dict[str, Any]) -> None:
        """Keep the event of a cancelled job from the new try of a cleared task.

        A person who clears a task cancels its job and removes this trigger's row. SQLite gives the number of that row
        to the new try's trigger, so the event could resume the new try in the moment in which it defers, and Airflow
        3.3 fails such a task (apache/airflow#72716). Airflow cancels this trigger within seconds. The time is bounded,
        because an event that never comes would be worse.
        """
        from firecrest_core.states import JobState

        if not self.owned or event.get("result", {}).get("state") != JobState.CANCELLED:
            return
        for _ in range(_CHECKS):
            try:
                if await is_awaited(self.task_instance, self.job["job_id"]):
                    return
            except Exception as error:
                self.log.debug("Airflow does not say whether the task still waits for this job: %s", error)
                return
            await asyncio.sleep(_BETWEEN_CHECKS)

    async def event(self) -> dict[str, Any]:
        """Wait, and return the event's JSON with what has happened to the job."""
        newest = NewestSnapshot(self.task_instance, self.hook.aconnection)
        if self.on_snapshot is None:
            self.on_snapshot = newest.show
        try:
            event = await super().event()
        finally:
            await newest.finish()
        if self._history is None:
            return event
        earlier = [snapshot.to_dict() for snapshot in self._earlier]
        return event | {"snapshot": self._history.snapshot.to_dict(), "earlier": earlier}

    async def wait(self, connection: Connection) -> dict[str, Any]:
        """Submit the job if it is not submitted yet, and wait for its end, whatever it is, and for those that follow.

        :param connection: where to ask, and as whom
        :raises SubmissionRejected: the scheduler refused it
        :raises JobNotFound: when the scheduler does not know the job for a minute
        :raises JobStuck: if wanted; the job is left in the queue
        """
        from firecrest_core.jobs.job import Job

        job = Job.from_dict(self.job)
        self._job_url = connection.job_url
        async with self.client_type(connection) as client:
            campaign = self._campaign(client.system(job.origin.system))
            is_new = not job.job_id
            if is_new and campaign is not None and job.key is not None:
                job = await campaign.submit(job.key, on_message=self._message)
                await self._tell_submitted(job)
            while True:
                history = await self._begin_history(job, is_new=is_new)
                if job.races:
                    job = await self._race(client.system(job.system), job, history)
                system = client.system(job.system)
                result, live = await self._wait_for(connection, system, job, history, campaign)
                following: Job | JobResult = result
                if campaign is not None:
                    show_rest = partial(self._show_rest, connection, system, job, history, result, live)
                    following = await campaign.follow(job, result, self._message, before_next=show_rest)
                if not isinstance(following, Job):
                    break
                await self._store_followed(connection, history.snapshot)
                job, is_new = following, True
                await self._tell_submitted(job)
        shown = [[one.stream, one.path, one.offset] for one in live.shown]
        metrics = self.metrics and job.own_path(self.metrics)
        return {"result": following.to_dict(), "output": shown, "metrics": metrics}

    async def _race(self, system: System, job: Job, history: JobHistory) -> Job:
        """Wait until one of the alternatives has begun, and show that one from then on."""
        from firecrest_core.race import winner

        job = await winner(
            system,
            job,
            poll_interval=self.poll_interval,
            on_message=self._message,
            on_warning=self.warn,
            on_status=history.on_status,
            fail_if_stuck=self.fail_if_stuck,
        )
        history.on_winner(job)
        await self._store_job(job)
        if self.on_next_job is None:
            await apush_links(self.task_instance, history.snapshot, self._job_url)
        return job

    async def _wait_for(
        self, connection: Connection, system: System, job: Job, history: JobHistory, campaign: Campaign | None
    ) -> tuple[JobResult, LiveOutput]:
        """Wait for one job, and show what it prints and measures meanwhile."""
        from firecrest_core import lifecycle

        async with self._output_of(system, job) as live, self._metrics_of(system, job, history) as metrics:

            def on_status(status: JobStatus) -> None:
                history.on_status(status)
                if metrics is not None:
                    metrics.on_status(status)
                if self._shows_output(connection):
                    live.on_status(status)

            ahead = campaign and campaign.submitting_ahead(job, on_status, self._message)
            async with ahead or nullcontext(on_status) as seen:
                result = await lifecycle.wait(
                    system,
                    job,
                    poll_interval=self.poll_interval,
                    on_message=self._message,
                    on_warning=self.warn,
                    on_status=seen,
                    fail_if_stuck=self.fail_if_stuck,
                )
        history.on_end(result)
        return result, live

    async def _show_rest(
        self,
        connection: Connection,
        system: System,
        job: Job,
        history: JobHistory,
        result: JobResult,
        live: LiveOutput,
    ) -> None:
        """Show what a job that another one follows has printed and measured since the last look.

        The output tells why the other one follows, which goes on writing to the same metrics. Of the last job, the
        worker does this.
        """
        if self._shows_output(connection):
            await live.show_rest(result)
        if self.metrics is not None:
            await self._finish_metrics(system, job, history, result)

    def _output_of(self, system: System, job: Job) -> LiveOutput:
        from firecrest_core.follow.live_output import LiveOutput

        return LiveOutput(
            system,
            job,
            partial(log_lines, self.log),
            self.log.info,
            element=None if isinstance(self.live_output, bool) else self.live_output,
            poll_interval=self.poll_interval,
        )

    @asynccontextmanager
    async def _metrics_of(self, system: System, job: Job, history: JobHistory) -> AsyncIterator[LiveMetrics | None]:
        if self.metrics is None:
            yield None
            return
        from firecrest_core.follow.live_metrics import LiveMetrics

        newest = NewestMetrics(self.task_instance, job.job_id)
        store = partial(self.on_metrics, job.job_id) if self.on_metrics else newest.show

        def on_metrics(metrics: Metrics) -> None:
            store(metrics)
            history.on_metrics(metrics.summary())

        taken = await self._taken(job, on_metrics)
        try:
            path = job.own_path(self.metrics)
            async with LiveMetrics(system, job, path, taken.take, poll_interval=self.poll_interval) as live:
                yield live
        finally:
            await taken.stop()
            await newest.finish()

    async def _taken(self, job: Job, on_metrics: Callable[[Metrics], None]) -> JobMetrics:
        """Return what takes the metrics of a job, for the log, for MLflow, and for the caller."""
        from firecrest_core.job_metrics import JobMetrics

        mlflow = await MLflowSettings(**self.mlflow).arun(job) if self.mlflow else None
        return JobMetrics(partial(self.log.info, "metrics | %s"), on_metrics, mlflow)

    async def _finish_metrics(self, system: System, job: Job, history: JobHistory, result: JobResult) -> None:
        assert self.metrics is not None

        def on_metrics(metrics: Metrics) -> None:
            history.on_metrics(metrics.summary())
            if self.on_metrics is not None:
                self.on_metrics(result.job_id, metrics)

        taken = await self._taken(job, on_metrics)
        await taken.finish(system, job.own_path(self.metrics), result, self.log.warning)
        if self.on_metrics is None and taken.metrics.series:
            await NewestMetrics(self.task_instance, result.job_id).store(taken.metrics)

    def _shows_output(self, connection: Connection) -> bool:
        """Tell whether the output may be shown. This process has to know the job's secrets for it."""
        from firecrest_core.spec.sealing import hide_secrets

        if self.live_output is not False and not hide_secrets(self.secrets, connection.secret):
            self.live_output = False
            self.log.warning(
                "The output of %s is not shown while it runs: the connection's secret has changed since the "
                "submission, so nobody knows here what to leave out.",
                describe_jobs([self.job]),
            )
        return self.live_output is not False

    async def _begin_history(self, job: Job, *, is_new: bool) -> JobHistory:
        """Go on with the history that an earlier trigger or the worker has stored, or begin one."""
        from firecrest_core.jobs.history import JobHistory, submitted

        begun = submitted(job, connection_id=self.firecrest_conn_id)
        if not self.owned:
            return JobHistory(begun)
        if is_new and self.on_snapshot is not None:
            self.on_snapshot(begun)
        if is_new and self.on_next_job is None:
            await apush_links(self.task_instance, begun, self._job_url)
        self._history = JobHistory(await aread(self.task_instance, job) or begun, self.on_snapshot)
        return self._history

    def warn(self, line: str) -> None:
        """Warn in the task's log of what keeps the job from starting, and keep that in its history.

        :param line: which job, and why
        """
        super().warn(line)
        if self._history is not None:
            self._history.on_message(line)

    def _message(self, line: str) -> None:
        self.log.info("%s", line)
        if self._history is not None:
            self._history.on_message(line)

    def _campaign(self, system: System) -> Campaign | None:
        """Return what submits the jobs; ``None`` if there is nothing to submit."""
        from firecrest_core.campaign import Campaign
        from firecrest_core.spec.sealing import unseal

        if self.submission is None:
            return None
        spec = unseal(self.submission, system.connection.secret)
        return Campaign.parse(system, spec, self.escalate, self.chain, self.alternatives)

    async def _store_followed(self, connection: Connection, snapshot: JobSnapshot) -> None:
        self._earlier.append(snapshot)
        if self.on_followed is not None:
            self.on_followed(snapshot)
        else:
            await apush_followed(self.task_instance, snapshot, connection)

    async def _tell_submitted(self, job: Job) -> None:
        self.log.info(job.submission_message())
        await self._store_job(job)

    async def _store_job(self, job: Job) -> None:
        """Make it the task's job from now on."""
        self.job = job.to_dict()
        if self.on_next_job is not None:
            self.on_next_job(job)
            return
        try:
            await push_xcom(self.task_instance, "job_id", job.job_id)
        except Exception as error:  # dag.test() gives a trigger no task instance, and the job is there all the same
            self.log.debug("The id of %s is not stored: %s", job, error)
