"""The metrics of a training that a run waits for: in its log and its table, as curves in an artifact, and in MLflow."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from firecrest_core import curve
from firecrest_core.jobs.job import Job
from prefect_firecrest.observability import markdown
from prefect_firecrest.prefect_internals import current_flow_run, current_task_run

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from firecrest_core.api.client import System
    from firecrest_core.job_metrics import JobMetrics
    from firecrest_core.jobs.status import JobStatus
    from firecrest_core.metrics import Metrics, Series
    from firecrest_core.result import JobResult

log = logging.getLogger(__name__)

# What a cell of the table has room for.
_MOST_IN_CELL = 4
_BLOCKS_IN_CELL = 8


class JobMetricsDisplay:
    """Follows the metrics file of a job.

    :param system: where the job is
    :param job: the job
    :param path: absolute path of its metrics file
    :param logger: of the run
    :param on_metrics: shows the metrics so far
    :param poll_interval: seconds between two reads of the file at the most
    :param experiment: MLflow's name for the jobs of a flow
    """

    def __init__(
        self,
        system: System,
        job: Job,
        path: str,
        *,
        logger: Any,
        on_metrics: Callable[[Metrics], object],
        poll_interval: float,
        experiment: str,
    ) -> None:
        from firecrest_core.follow.live_metrics import LiveMetrics

        self._system, self._job, self._path = system, job, path
        self._log = logger
        self._on_metrics = on_metrics
        self._experiment = experiment
        self._taken = self._metrics_of(job)
        self._live = LiveMetrics(system, job, path, self._taken.take, poll_interval=poll_interval)

    def on_status(self, status: JobStatus) -> None:
        """Follow the job while it runs.

        :param status: where it is
        """
        self._live.on_status(status)

    async def stop(self) -> None:
        """Follow the job no longer."""
        await self._live.stop()
        await self._taken.stop()

    async def show_end(self, result: JobResult) -> None:
        """Show what the whole file holds.

        :param result: how the job ended, or the one that ran in its place
        """
        await self.stop()
        if result.job_id != self._job.job_id:
            self._taken = self._metrics_of(Job(system=result.system, job_id=result.job_id, name=result.name))
        await self._taken.finish(self._system, self._path, result, self._log.warning)

    def _metrics_of(self, job: Job) -> JobMetrics:
        from firecrest_core.job_metrics import JobMetrics, mlflow_run

        def on_message(summary: str) -> None:
            self._log.info("%s metrics: %s", job, summary)

        return JobMetrics(on_message, self._on_metrics, mlflow_run(job, self._experiment, _tags()))


async def experiment(flow_run: FlowRun | None) -> str:
    """Return the name of a flow run's flow, if MLflow is to have it.

    :param flow_run: the outermost of the flow runs that a job belongs to
    """
    if flow_run is None or "MLFLOW_TRACKING_URI" not in os.environ:
        return "firecrest"
    from prefect.client.orchestration import get_client

    try:
        async with get_client() as client:
            return (await client.read_flow(flow_run.flow_id)).name
    except Exception as error:
        log.debug("The flow of %s is not known: %s", flow_run.name, error)
        return "firecrest"


def _tags() -> dict[str, str]:
    flow_run, task_run = current_flow_run(), current_task_run()
    tags = {
        "prefect.flow_run_id": flow_run and flow_run.id,
        "prefect.flow_run_name": flow_run and flow_run.name,
        "prefect.task_run_id": task_run and task_run.id,
    }
    return {name: str(value) for name, value in tags.items() if value is not None}


def cell(metrics: Metrics) -> str:
    """Return what the table of jobs shows of metrics, such as ``loss 0.25 █▄▁ (step 2)``.

    :param metrics: the metrics
    """
    shown = list(metrics.series.items())[:_MOST_IN_CELL]
    more = f" and {len(metrics.series) - len(shown)} more" if len(metrics.series) > len(shown) else ""
    parts = [" ".join(filter(None, (name, _last(one), _blocks(one)))) for name, one in shown]
    steps = [one.points[-1][0] for one in metrics.series.values() if one.points]
    return ", ".join(parts) + more + (f" (step {max(steps):.12g})" if steps else "")


def page(title: str, metrics: Metrics) -> str:
    """Return metrics as Markdown: a table, and the curves as a picture.

    :param title: of which job they are; any text
    :param metrics: the metrics
    """
    lines = [f"## {markdown.escape(title)}", "", "| metric | last value | smallest | largest |", "|---|---|---|---|"]
    for name, one in metrics.series.items():
        values = [value for _, value in one.points]
        ends = (f"{min(values):.6g}", f"{max(values):.6g}") if values else ("", "")
        lines.append(f"| {' | '.join((markdown.escape(name), _last(one), *ends))} |")
    lines += ["", *(f"{markdown.escape(remark)}\n" for remark in metrics.remarks())]
    picture = curve.picture({name: one.points for name, one in metrics.series.items()})
    # An image runs no script, and the curves need no server that keeps them.
    lines.append(f"![curves](data:image/svg+xml;base64,{base64.b64encode(picture.encode()).decode()})")
    return "\n".join(lines)


def _last(one: Series) -> str:
    return "" if one.last is None else f"{one.last:.6g}"


def _blocks(one: Series) -> str:
    return curve.blocks([value for _, value in one.points], _BLOCKS_IN_CELL)
