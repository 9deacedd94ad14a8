"""What Prefect shows of a job that a run waits for: a row in a table, its progress, its output, metrics, and events.

The flow runs that enclose the job's own show the row, too, and their logs say that it was submitted and how it ended.

This costs no request for the job's state: the answers are those that the wait gets anyway. Only the output is read
besides, and the metrics of a job that has any. So output and progress are shown while a process waits for a few jobs.
Of hundreds, there is the table.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from prefect.logging.loggers import flow_run_logger

from firecrest_core.states import JobState, Phase
from prefect_firecrest.identity import read_lineage
from prefect_firecrest.observability import events, markdown
from prefect_firecrest.observability.artifacts import Artifact, progress_key, time_used
from prefect_firecrest.observability.centre_page import centre_page
from prefect_firecrest.observability.job_table import JobTable, Row
from prefect_firecrest.prefect_internals import current_flow_run, current_run_ids, current_run_url
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from firecrest_core.api.client import System
    from firecrest_core.follow.live_output import LiveOutput
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.status import JobStatus
    from firecrest_core.metrics import Metrics
    from firecrest_core.result import JobResult
    from prefect_firecrest.observability.job_metrics import JobMetricsDisplay

log = logging.getLogger(__name__)

_FEW = 8


def _live_output(system: System, job: Job, on_message: Callable[[str], Any], poll_interval: float) -> LiveOutput:
    """Return what writes the output of a job to the run's log, several lines in one message."""
    from firecrest_core.follow.live_output import LiveOutput

    def on_lines(stream: str, lines: list[str]) -> None:
        where = " to its standard error" if stream == "err" else ""
        on_message(f"{job} writes{where}:\n" + "\n".join(lines))

    return LiveOutput(system, job, on_lines, lambda remark: on_message(f"{job}: {remark}"), poll_interval=poll_interval)


class ActiveDisplays:
    """The displays of all jobs that this process waits for. Used in the runtime's event loop alone."""

    def __init__(self) -> None:
        self.displays: set[Display] = set()

    @property
    def are_few(self) -> bool:
        """Whether there is time for the output and the progress of each."""
        return len(self.displays) <= _FEW


async def show_submitted(job: Job, job_url: str, logger: Any, message: str | None = None) -> None:
    """Show a job that was submitted, or found by its claim.

    :param job: the job
    :param job_url: that of the credentials, for the job's page at the centre
    :param logger: of the run
    :param message: what the log says of it, unless that it was submitted or found
    """
    page = centre_page(job_url, job)
    logger.info("%s%s", message or job.submission_message(), page and f" Its page: {page}")
    flow_run = current_flow_run()
    if flow_run is None:
        return
    lineage, link = await _lineage(flow_run), current_run_url()
    for one in lineage:
        JobTable.of(one.id).show(_waiting(job, page, link))
    _log_in_callers(lineage, job.submission_message(), link)
    if job.submitted_at:  # now, and not earlier
        events.emit("submitted", job, JobState.PENDING)


async def show_winner(job: Job, first: Job, job_url: str) -> None:
    """Show the alternative that runs in the place of the one that was shown first.

    :param job: the job that runs
    :param first: the job that was shown
    :param job_url: that of the credentials, for the job's page at the centre
    """
    flow_run = current_flow_run()
    if flow_run is None:
        return
    row = _waiting(job, centre_page(job_url, job), current_run_url())
    for one in await _lineage(flow_run):
        JobTable.of(one.id).show(row, instead_of=first)


def _waiting(job: Job, page: str, link: str | None) -> Row:
    return Row(job.job_id, job.name, job.system, JobState.PENDING, page=page or None, link=link)


async def current_flow_runs() -> tuple[UUID, ...]:
    """Return the current flow run and those that it runs in, the innermost first, by their ids."""
    flow_run = current_flow_run()
    return tuple(one.id for one in await _lineage(flow_run)) if flow_run is not None else ()


async def _lineage(flow_run: FlowRun) -> list[FlowRun]:
    """Return the flow runs that show a job: its own and, if Prefect's API answers, those that this one runs in."""
    try:
        return await read_lineage(flow_run)
    except Exception as error:
        log.debug("The flow runs around %s are not known: %s", flow_run.name, error)
        return [flow_run]


def _log_in_callers(lineage: Sequence[FlowRun], message: str, link: str | None) -> None:
    """Write a line about a job to the logs of the flow runs that enclose the job's own.

    :param link: to the log that says more
    """
    for caller in lineage[1:]:
        flow_run_logger(caller).info("%s%s", message, f" {link}" if link else "")


class Display:
    """A job as Prefect shows it while a run waits for it; an asynchronous context manager.

    Outside of a flow run, nothing is shown.

    :param logger: of the run
    :param poll_interval: seconds between two reads of the output, and of the metrics, at the most
    :param metrics: absolute path of the file to which the job writes its metrics
    """

    def __init__(self, system: System, job: Job, logger: Any, poll_interval: float, metrics: str | None = None) -> None:
        self._system, self._job = system, job
        self._logger, self._poll_interval, self._metrics_path = logger, poll_interval, metrics
        task_run_id, flow_run_id = current_run_ids()
        self._flow_run = current_flow_run()
        self._lineage: list[FlowRun] = []
        self._link = current_run_url()
        self._is_running = False
        self._active = runtime.state(ActiveDisplays)
        self._details: _Details | None = None
        if flow_run_id is not None:
            progress = Artifact("progress", progress_key(job), flow_run_id=flow_run_id, task_run_id=task_run_id)
            self._details = _Details(job, progress, _live_output(system, job, logger.info, poll_interval))
        self._metrics_cell = ""
        self._is_ending = False
        self._metrics: JobMetricsDisplay | None = None
        self._curves: Artifact | None = None
        if metrics is not None and flow_run_id is not None:
            key = f"{progress_key(job)}-metrics"
            self._curves = Artifact("markdown", key, flow_run_id=flow_run_id, task_run_id=task_run_id)

    async def __aenter__(self) -> Self:
        if self._flow_run is not None:
            self._lineage = await _lineage(self._flow_run)
        if self._metrics_path is not None:
            self._metrics = await self._begin_metrics(self._metrics_path)
        self._active.displays.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._active.displays.discard(self)
        if self._details:
            await self._details.live_output.stop()
        if self._metrics is not None:
            await self._metrics.stop()

    def on_status(self, status: JobStatus) -> None:
        """Show where the job is, before its end."""
        if self._metrics is not None:
            self._metrics.on_status(status)
        if self._flow_run is None:
            return
        for one in self._lineage:
            JobTable.of(one.id).show(self._row(self._job, status))
        if status.state.phase is not Phase.RUNNING:
            return
        if not self._is_running:
            self._is_running = True
            events.emit("running", self._job, status.state)
        if self._details and self._active.are_few:
            self._details.on_status(status)
        elif self._details:
            self._details.live_output.pause()

    async def show_end(self, result: JobResult) -> None:
        """Show how the job ended."""
        if self._metrics is not None:
            self._is_ending = True
            await self._metrics.show_end(result)
        if self._flow_run is None:
            return
        tables = [JobTable.of(one.id) for one in self._lineage]
        if not tables[0].shows_end(result):  # of a job that was cancelled for its flow run, the monitor has shown it
            events.emit_ended(result, self._flow_run.id)
            _log_in_callers(self._lineage, result.summary(), self._link)
        async with asyncio.TaskGroup() as group:
            for table in tables:
                table.show(self._row(result, result), instead_of=self._job)
                group.create_task(table.write())
            if self._details:
                group.create_task(self._details.show_end(result))
            if self._curves is not None:
                group.create_task(self._curves.write())

    def _row(self, job: Job | JobResult, status: JobStatus | JobResult) -> Row:
        page = centre_page(self._system.connection.job_url, job, status)
        return replace(Row.of(job, status, self._link, page or None), metrics=self._metrics_cell)

    async def _begin_metrics(self, path: str) -> JobMetricsDisplay:
        from prefect_firecrest.observability.job_metrics import JobMetricsDisplay, experiment

        return JobMetricsDisplay(
            self._system,
            self._job,
            path,
            logger=self._logger,
            on_metrics=self._on_metrics,
            poll_interval=self._poll_interval,
            experiment=await experiment(self._lineage[-1] if self._lineage else None),
        )

    def _on_metrics(self, metrics: Metrics) -> None:
        from prefect_firecrest.observability.job_metrics import cell, page

        self._metrics_cell = cell(metrics)
        for one in self._lineage:
            JobTable.of(one.id).show_metrics(self._job, self._metrics_cell)
        if self._curves is not None and (self._active.are_few or self._is_ending):
            title = f"{self._job} on {self._job.system}"
            self._curves.show(page(title, metrics), markdown.escape(f"{title}: {metrics.summary()}"))


class _Details:
    """What only a few jobs have: a progress artifact, and the output in the log."""

    def __init__(self, job: Job, progress: Artifact, live_output: LiveOutput) -> None:
        self._job, self._progress, self.live_output = job, progress, live_output
        self._active = runtime.state(ActiveDisplays)
        self._percent: float | None = None  # shown so far

    def on_status(self, status: JobStatus) -> None:
        self.live_output.on_status(status)
        if used := time_used(status):
            self._percent, text = used
            self._progress.show(self._percent, markdown.escape(f"{self._job} on {self._job.system}: {text}"))

    async def show_end(self, result: JobResult) -> None:
        if result.job_id == self._job.job_id and self._active.are_few:
            await self.live_output.show_rest(result)
        if self._percent is not None or (result.succeeded and self._active.are_few):
            self._progress.show(100.0 if result.succeeded else self._percent or 0.0, markdown.escape(result.summary()))
            await self._progress.write()
