"""The metrics of a job for whoever waits for it: as a line in a log, as numbers to show, and in MLflow."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable, Mapping

from firecrest_core import paths
from firecrest_core.api.client import System
from firecrest_core.errors import FirecRESTError, RemotePathNotFound
from firecrest_core.jobs.job import Job
from firecrest_core.metrics import MetricRow, Metrics
from firecrest_core.mlflow_run import MLflowRun
from firecrest_core.result import JobResult

log = logging.getLogger(__name__)

# Seconds between two lines in the log, and between two times that the metrics are shown, at least.
_BETWEEN_LINES = 60.0
_BETWEEN_VIEWS = 10.0
# Seconds: for what is on its way to MLflow when a wait ends, for the last read of the file, for MLflow at the end.
_STOP_TIMEOUT = 5.0
_READ_TIMEOUT = 10.0
_MLFLOW_TIMEOUT = 30.0


async def metrics_path(system: System, working_dir: str, path: str) -> str:
    """Return the absolute path of a job's metrics file.

    :param system: where the job runs
    :param working_dir: absolute path of its working directory
    :param path: as the user wrote it
    :raises InvalidFileName: a variable is not known
    """
    return await paths.expand(system, paths.join(paths.escaped(working_dir), path))


def mlflow_run(job: Job, experiment: str, tags: Mapping[str, str], tracking_uri: str | None = None) -> MLflowRun | None:
    """Return the MLflow run of a job; ``None`` if no MLflow is named.

    :param job: the job
    :param experiment: the name of the experiment, unless ``MLFLOW_EXPERIMENT_NAME`` gives one
    :param tags: of the run
    :param tracking_uri: where MLflow is; without it, ``MLFLOW_TRACKING_URI`` counts
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    return MLflowRun(uri, os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment, job, tags) if uri else None


class JobMetrics:
    """Takes the lines of a metrics file as they come, and the whole file at the end.

    :param on_message: gets the last values in a line, once a minute at most
    :param on_metrics: gets the metrics so far, every ten seconds at most
    :param mlflow: the run that gets them, too
    """

    def __init__(
        self,
        on_message: Callable[[str], object],
        on_metrics: Callable[[Metrics], object],
        mlflow: MLflowRun | None = None,
    ) -> None:
        self.metrics = Metrics()
        self._tell = _Seldom(_BETWEEN_LINES, lambda: on_message(self.metrics.summary()))
        self._show = _Seldom(_BETWEEN_VIEWS, lambda: on_metrics(self.metrics))
        self._mlflow = mlflow
        self._waiting: list[MetricRow] = []
        self._sending: asyncio.Task[None] | None = None

    def take(self, lines: list[str]) -> None:
        """Take new lines.

        :param lines: the lines
        """
        rows = self.metrics.add_lines(lines)
        if not rows:
            return
        self._tell.soon()
        self._show.soon()
        if self._mlflow is not None:
            self._waiting += rows
            if self._sending is None or self._sending.done():
                self._sending = asyncio.create_task(self._send(self._mlflow))

    async def stop(self) -> None:
        """Tell no more, and give MLflow a moment for what is on its way. What it lacks then, it gets at the end."""
        self._tell.cancel()
        self._show.cancel()
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=_STOP_TIMEOUT)

    async def finish(self, system: System, path: str, result: JobResult, on_warning: Callable[[str], object]) -> None:
        """Read the whole file of a job that has ended, show what it holds, and send MLflow what it lacks.

        :param system: where the job ran
        :param path: absolute path of the file
        :param result: how the job ended
        :param on_warning: gets a line on what is wrong with the file or with MLflow
        """
        await self.stop()
        rows, self._waiting = self._waiting, []
        lines = await _read(system, path, on_warning)
        if lines is not None:
            whole = Metrics()
            rows = whole.add_lines(lines)
            if rows:
                self.metrics = whole
            else:
                on_warning(f"metrics: {path} holds no numbers. One JSON object a line is needed.")
        if self.metrics.series:
            self._tell.now()
            self._show.now()
        if self._mlflow is not None:
            try:
                async with asyncio.timeout(_MLFLOW_TIMEOUT):
                    await self._mlflow.log(rows)
                    await self._mlflow.end(result.state)
            except TimeoutError:
                on_warning(f"metrics: MLflow has not taken all of {path} within {_MLFLOW_TIMEOUT:.0f} seconds.")

    async def _send(self, mlflow: MLflowRun) -> None:
        while self._waiting:
            rows, self._waiting = self._waiting, []
            await mlflow.log(rows)


class _Seldom:
    """Does something now and then. What it was last asked to do is done, if later.

    :param seconds: between two times, at least
    :param act: what is done
    """

    def __init__(self, seconds: float, act: Callable[[], object]) -> None:
        self._seconds, self._act = seconds, act
        self._next_at = -math.inf
        self._later: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """Do it now, or as soon as the time has passed."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._next_at:
            self.now()
        elif self._later is None:
            self._later = loop.call_at(self._next_at, self.now)

    def now(self) -> None:
        """Do it now."""
        self.cancel()
        self._next_at = asyncio.get_running_loop().time() + self._seconds
        self._act()

    def cancel(self) -> None:
        """Do not do it later."""
        if self._later is not None:
            self._later.cancel()
            self._later = None


async def _read(system: System, path: str, on_warning: Callable[[str], object]) -> list[str] | None:
    """Return the lines of a file; ``None`` if it cannot be read, or is larger than what the server sends at once."""
    try:
        async with asyncio.timeout(_READ_TIMEOUT):
            return (await system.read_from(path, 0)).split("\n")
    except RemotePathNotFound:
        on_warning(f"metrics: there is no {path}. The job has to write its metrics there.")
    except (FirecRESTError, TimeoutError) as error:
        log.debug("The metrics in %s cannot be read: %s", path, error)
    return None
