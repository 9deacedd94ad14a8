"""The script of a job, as Airflow keeps the rendered fields of its task. Nobody asks FirecREST for it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import rights
from airflow_provider_firecrest.web.found_job import JOB, FoundJob
from airflow_provider_firecrest.web.templating import page
from airflow_provider_firecrest.web.viewers import Viewer

routes = APIRouter()


@dataclass(frozen=True)
class Script:
    """What a task lets its job run.

    :param text: the script or the command
    :param note: what a reader has to know of it
    """

    text: str = ""
    note: str = ""


@routes.get(f"{JOB}/script")
def show_script(request: Request, viewer: Viewer, job: FoundJob) -> HTMLResponse:
    """Show the script of a job.

    :param request: the request
    :param viewer: the user
    :param job: the job
    """
    row = job.row
    if not rights.may_read_script(viewer, row.dag_id):
        raise HTTPException(403, "You may not read the tasks of this DAG, and so not the scripts of its jobs.")
    fields = airflow_internals.rendered_fields(row.dag_id, row.run_id, row.task_id, row.map_index)
    return page(request, "script.html", {"script": script_of(fields), "is_earlier": row.ended_earlier})


def script_of(fields: Mapping[str, Any]) -> Script:
    """Return the script of a job.

    :param fields: the rendered fields of its task
    """
    job = fields.get("job")
    given = {**(job if isinstance(job, dict) else {}), **{name: value for name, value in fields.items() if value}}
    for name in ("script", "command"):
        if value := given.get(name):
            return Script(shlex.join(map(str, value)) if isinstance(value, list) else str(value))
    if path := given.get("script_path"):
        return Script(note=f"The script is the file {path} on the system.")
    return Script(note="Airflow does not keep the script of this job: a function has submitted it, or its run is old.")
