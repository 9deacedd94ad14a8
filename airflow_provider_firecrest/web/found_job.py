"""The job that an address names, if the viewer may see it."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Depends, HTTPException

from airflow_provider_firecrest.airflow_internals import rights
from airflow_provider_firecrest.monitoring.board import board
from airflow_provider_firecrest.web.job_view import JobView
from airflow_provider_firecrest.web.viewers import Viewer

JOB = "/jobs/{dag_id}/{run_id}/{task_id}/{map_index}/{job_id}"
"""The path of a job's page."""


def get_job(viewer: Viewer, dag_id: str, run_id: str, task_id: str, map_index: int, job_id: str) -> JobView:
    """Return the job.

    :param viewer: the user
    :param dag_id: the task's DAG
    :param run_id: its run
    :param task_id: the task
    :param map_index: the index of a mapped task; -1 for others
    :param job_id: the job
    :raises HTTPException: 404; there is none, or the viewer may not know of it
    """
    row = None
    if rights.readable_dags(viewer, [dag_id]):
        row = board().get(dag_id, run_id, task_id, map_index, job_id)
    if row is None:
        raise HTTPException(404, f"There is no job {job_id} of this task, or you may not see it.")
    return JobView(row, time.time())


FoundJob = Annotated[JobView, Depends(get_job)]
