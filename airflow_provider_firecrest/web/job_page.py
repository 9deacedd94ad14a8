"""The page of one job."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from airflow_provider_firecrest.airflow_internals import rights
from airflow_provider_firecrest.web.found_job import JOB, FoundJob
from airflow_provider_firecrest.web.templating import duration, moment, node_hours, page
from airflow_provider_firecrest.web.viewers import Viewer

routes = APIRouter()


@routes.get(JOB)
def show_job(request: Request, viewer: Viewer, job: FoundJob) -> HTMLResponse:
    """Show a job.

    :param request: the request
    :param viewer: the user
    :param job: the job
    """
    seen = job.job
    resources = [
        ("System", seen.system),
        ("Partition", seen.partition),
        ("Account", seen.account),
        ("Nodes", ": ".join(str(one) for one in (seen.node_count, seen.nodes) if one)),
        ("Time limit", duration(seen.time_limit)),
        ("Time used", duration(job.used)),
        ("Node hours", node_hours(seen.node_hours)),
        ("Submitted", moment(seen.submitted_at)),
        ("Waited", duration(job.waited)),
        ("Started", moment(seen.started_at)),
        ("Ended", moment(seen.ended_at)),
        ("Last seen", moment(seen.seen_at)),
    ]
    files = [("Directory", seen.working_dir), ("Output", seen.stdout), ("Errors", seen.stderr)]
    values = {
        "job": job,
        "resources": resources,
        "files": files,
        "may_cancel": job.is_watched and rights.may_cancel(viewer, job.row.dag_id),
        "may_read": rights.may_read_output(viewer, job.row.dag_id),
    }
    return page(request, "job.html", values)
