"""The metrics of a job in MLflow, sent from where the job is waited for: compute nodes often have no internet.

One MLflow run stands for one job. It is found by its tag, so a process that goes on waiting goes on with it, and it
knows how many lines of the metrics file it has. MLflow's client is an optional dependency (the extra ``mlflow``).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from firecrest_core.api.backoff import Backoff
from firecrest_core.errors import ConfigurationError
from firecrest_core.metrics import MetricRow
from firecrest_core.states import JobState

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from firecrest_core.jobs.job import Job

log = logging.getLogger(__name__)

_JOB, _LINES = "firecrest.job", "firecrest.metric_lines"
# MLflow takes so many metrics in one request.
_MOST = 1000
# Rows that wait for an MLflow that does not answer.
_LONGEST_WAIT = 10_000
_STATES = {JobState.COMPLETED: "FINISHED", JobState.CANCELLED: "KILLED"}
_NAME = "-_./ "


@dataclass
class MLflowRun:
    """The run of a job. Whatever MLflow answers, the job and the wait for it go on.

    :param tracking_uri: where MLflow is; it may hold a user and a password, which stand in no message
    :param experiment: the name of the experiment; made if it is missing
    :param job: the job
    :param tags: further tags of the run
    """

    tracking_uri: str = field(repr=False)
    experiment: str
    job: Job
    tags: Mapping[str, str] = field(default_factory=dict)
    _client: MlflowClient | None = field(default=None, repr=False)
    _run_id: str | None = None
    _sent: int = 0
    _waiting: list[tuple[float, MetricRow]] = field(default_factory=list, repr=False)
    _outage: Backoff | None = None
    # A call that took too long may still be at work.
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def log(self, rows: Sequence[MetricRow]) -> None:
        """Send the metrics of lines, but for those that the run has already. What cannot be sent waits for the next.

        :param rows: as :meth:`firecrest_core.metrics.Metrics.add_lines` returns them
        """
        async with self._turn:
            self._waiting += [(time.time(), row) for row in rows]
            del self._waiting[:-_LONGEST_WAIT]
            if self._waiting:
                await self._try(self._send)

    async def end(self, state: JobState) -> None:
        """Send what is left, and end the run.

        :param state: how the job has ended
        """
        async with self._turn:
            await self._try(self._send)
            await self._try(self._terminate, _STATES.get(state, "FAILED"))

    async def _try(self, call: Any, *arguments: Any) -> None:
        try:
            await asyncio.to_thread(call, *arguments)
        except Exception as error:
            now = time.monotonic()
            self._outage = self._outage or Backoff(now)
            if self._outage.should_report(now):
                # The words of others may repeat the URL, with the password in it.
                why = str(error) if isinstance(error, ConfigurationError) else type(error).__name__
                where = urlsplit(self.tracking_uri).hostname or "its store"
                log.warning("MLflow (%s) does not take the metrics of %s, which goes on: %s", where, self.job, why)
        else:
            self._outage = None

    def _send(self) -> None:
        client, run_id = self._connected()
        from mlflow.entities import Metric, RunTag

        new = [(at, row) for at, row in self._waiting if row.line > self._sent]
        metrics = [
            Metric(_allowed(name), value, int(at * 1000), _whole(row.step))
            for at, row in new
            for name, value in row.values.items()
        ]
        for first in range(0, len(metrics), _MOST):
            client.log_batch(run_id, metrics=metrics[first : first + _MOST])
        if new:
            self._sent = new[-1][1].line
            client.log_batch(run_id, tags=[RunTag(_LINES, str(self._sent))])
        self._waiting.clear()

    def _terminate(self, state: str) -> None:
        client, run_id = self._connected()
        client.set_terminated(run_id, state)

    def _connected(self) -> tuple[MlflowClient, str]:
        if self._client is not None and self._run_id is not None:
            return self._client, self._run_id
        client = self._client = self._client or _client(self.tracking_uri)
        experiment = client.get_experiment_by_name(self.experiment)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(self.experiment)
        name = f"{self.job.system}/{self.job.job_id}"
        found = client.search_runs([experiment_id], f"tags.`{_JOB}` = '{name}'", max_results=1)
        if found:
            run = found[0]
            self._sent = int(run.data.tags.get(_LINES, 0))
        else:
            run = client.create_run(
                experiment_id, tags={**self.tags, _JOB: name}, run_name=f"{self.job.name or 'job'} {self.job.job_id}"
            )
        self._run_id = run.info.run_id
        return client, run.info.run_id


def _client(tracking_uri: str) -> MlflowClient:
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise ConfigurationError(
            "its client is not installed where jobs are waited for. Install firecrest-workflows[mlflow] there."
        ) from None
    return MlflowClient(tracking_uri)


def _allowed(name: str) -> str:
    """Return a name that MLflow takes for a metric."""
    text = "".join(one if one.isalnum() or one in _NAME else "_" for one in name)[:250].strip("/. ")
    return text or "_"


def _whole(step: float) -> int:
    return int(step) if math.isfinite(step) and abs(step) < 2**53 else 0
