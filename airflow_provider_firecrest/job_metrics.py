"""The metrics of a task's job: in an XCom for the job's page, and which MLflow gets them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_provider_firecrest.newest_xcom import NewestXCom

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from firecrest_core.jobs.job import Job
    from firecrest_core.metrics import Metrics
    from firecrest_core.mlflow_run import MLflowRun

log = logging.getLogger(__name__)

METRICS_KEY = "firecrest_metrics"
"""The XCom with a job's metrics, as :meth:`firecrest_core.metrics.Metrics.to_dict` writes them, has this key with a dot
and the job's id."""


def _stored(metrics: Metrics, job_id: str) -> dict[str, Any]:
    return {"job_id": job_id, **metrics.to_dict()}


def push_metrics(ti: Any, job_id: str, metrics: Metrics) -> None:
    """Store the metrics of a task's job, in a worker.

    :param ti: the task instance
    :param job_id: the job
    :param metrics: its metrics
    """
    try:
        ti.xcom_push(key=f"{METRICS_KEY}.{job_id}", value=_stored(metrics, job_id))
    except Exception as error:
        log.debug("The metrics of %s are not stored: %s", ti.task_id, error)


class NewestMetrics(NewestXCom["Metrics"]):
    """Stores the newest metrics beside a trigger that waits.

    :param ti: the task instance of the trigger
    :param job_id: the job
    """

    def __init__(self, ti: Any, job_id: str) -> None:
        super().__init__(ti, f"{METRICS_KEY}.{job_id}")
        self._job_id = job_id

    async def to_json(self, value: Metrics) -> dict[str, Any]:
        """Return the metrics.

        :param value: the metrics
        """
        return _stored(value, self._job_id)


def tracking_uri(connection: Connection) -> str:
    """Return where MLflow is, for its client.

    :param connection: an Airflow connection of the type ``http`` with the URL of MLflow, and its user and password
    """
    host = connection.host or ""
    if "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    parts = urlsplit(host)
    place = parts.hostname or ""
    if port := connection.port or parts.port:
        place += f":{port}"
    if connection.login:
        place = f"{quote(connection.login, safe='')}:{quote(connection.password or '', safe='')}@{place}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


@dataclass(frozen=True)
class MLflowSettings:
    """Where the metrics of a task's jobs go.

    :param conn_id: the Airflow connection of MLflow; without it, ``MLFLOW_TRACKING_URI`` of the process counts
    :param experiment: the name of the experiment
    :param tags: of each run
    """

    conn_id: str | None
    experiment: str
    tags: dict[str, str]

    @classmethod
    def of_task(cls, ti: Any, conn_id: str | None) -> MLflowSettings:
        """Return the settings of a task: its DAG is the experiment.

        :param ti: the task instance
        :param conn_id: as for the class
        """
        names = ("dag_id", "run_id", "task_id", "map_index")
        return cls(conn_id, ti.dag_id, {f"airflow.{name}": str(getattr(ti, name)) for name in names})

    def run(self, job: Job) -> MLflowRun | None:
        """Return the run of a job, in a worker; ``None`` if no MLflow is named, or its connection cannot be used.

        :param job: the job
        """
        try:
            uri = None if self.conn_id is None else tracking_uri(BaseHook.get_connection(self.conn_id))
        except Exception as error:  # the job must not end because of it
            self._is_unusable(error)
            return None
        return self._run_at(uri, job)

    async def arun(self, job: Job) -> MLflowRun | None:
        """Do what :meth:`run` does, in a trigger.

        :param job: the job
        """
        try:
            uri = None if self.conn_id is None else tracking_uri(await BaseHook.aget_connection(self.conn_id))
        except Exception as error:
            self._is_unusable(error)
            return None
        return self._run_at(uri, job)

    def _is_unusable(self, error: Exception) -> None:
        # The words of others may repeat the URL, with the password in it.
        why = str(error) if isinstance(error, AirflowNotFoundException) else type(error).__name__
        log.warning("No MLflow gets the metrics, for its connection %r cannot be used: %s", self.conn_id, why)

    def _run_at(self, uri: str | None, job: Job) -> MLflowRun | None:
        from firecrest_core.job_metrics import mlflow_run

        return mlflow_run(job, self.experiment, self.tags, uri)
