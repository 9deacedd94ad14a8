"""The links from a task to its job: to its page in Airflow's UI, and to the one of the centre.

Airflow's API server reads a link from an XCom. The task's process writes it whenever it ends, also to defer. A worker
that goes on to wait, and a trigger that submits the job, write it when the job exists.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.job_snapshots import SNAPSHOT_KEY

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from firecrest_core.jobs.snapshot import JobSnapshot

log = logging.getLogger(__name__)


class HPCJobLink(BaseOperatorLink):
    """The job's page below *HPC Jobs*."""

    name = "HPC job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the page's URL; an empty text if the task has no job yet.

        :param operator: the task's
        :param ti_key: the task instance
        """
        snapshot = _stored(ti_key)
        return "" if snapshot is None else page_url(ti_key, snapshot.job_id)


class CentreJobLink(BaseOperatorLink):
    """The job's page in the centre's own web interface, by ``job_url`` of the connection."""

    name = "Job at the centre"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the page's URL; an empty text if the task has no job yet, or the connection has no ``job_url``.

        :param operator: the task's, with a hook; one that names its job by ``job_id`` need not have stored it
        :param ti_key: the task instance
        """
        from firecrest_core.job_pages import job_url

        try:
            connection = operator.hook.connection()
        except Exception:  # the task's own error says so
            return ""
        if not connection.job_url:
            return ""
        snapshot = _stored(ti_key)
        if snapshot is not None:
            return centre_url(connection.job_url, snapshot)
        job_id, system = getattr(operator, "job_id", None), operator.system or connection.system
        return job_url(connection.job_url, system=system, job_id=str(job_id)) if job_id and system else ""


def push_links(ti: Any, snapshot: JobSnapshot, template: str) -> None:
    """Store the links of a task's job, in a worker that goes on to wait for it.

    :param ti: the task instance
    :param snapshot: the job
    :param template: ``job_url`` of the connection
    """
    try:
        for key, url in _links(ti, snapshot, template).items():
            ti.xcom_push(key=key, value=url)
    except Exception as error:  # a job goes on without its links
        log.debug("The links of job %s are not stored: %s", snapshot.job_id, error)


async def apush_links(ti: Any, snapshot: JobSnapshot, template: str) -> None:
    """Store the links of a task's job, in a trigger that has submitted it.

    :param ti: the task instance of the trigger
    :param snapshot: the job
    :param template: ``job_url`` of the connection
    """
    try:
        for key, url in _links(ti, snapshot, template).items():
            await airflow_internals.push_xcom(ti, key, url)
    except Exception as error:
        log.debug("The links of job %s are not stored: %s", snapshot.job_id, error)


def page_url(ti: Any, job_id: str) -> str:
    """Return the URL of a job's page below *HPC Jobs*.

    :param ti: what has the names of the task instance
    :param job_id: the job
    """
    from airflow.sdk import conf

    map_index = -1 if ti.map_index is None else ti.map_index
    segments = (ti.dag_id, ti.run_id, ti.task_id, map_index, job_id)
    base = conf.get("api", "base_url", fallback="/").rstrip("/")
    return "/".join([base, "firecrest", "jobs", *(quote(str(one), safe="") for one in segments)])


def centre_url(template: str, snapshot: JobSnapshot) -> str:
    """Return the URL of a job's page in the centre's own web interface.

    :param template: ``job_url`` of the connection
    :param snapshot: the job
    """
    from firecrest_core.job_pages import job_url

    return job_url(
        template,
        system=snapshot.system,
        job_id=snapshot.job_id,
        name=snapshot.name,
        account=snapshot.account,
        partition=snapshot.partition,
        nodes=snapshot.nodes,
        start=snapshot.submitted_at if snapshot.started_at is None else snapshot.started_at,
        end=snapshot.ended_at,
    )


def _links(ti: Any, snapshot: JobSnapshot, template: str) -> dict[str, str]:
    links = {HPCJobLink().xcom_key: page_url(ti, snapshot.job_id)}
    return links | ({CentreJobLink().xcom_key: centre_url(template, snapshot)} if template else {})


def _stored(ti_key: Any) -> JobSnapshot | None:
    from firecrest_core.jobs.snapshot import JobSnapshot

    try:
        return JobSnapshot.from_dict(airflow_internals.read_xcom(ti_key, SNAPSHOT_KEY))
    except Exception:  # no job yet, or somebody has edited it
        return None
