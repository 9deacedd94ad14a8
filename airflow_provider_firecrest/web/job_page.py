"""The page of one job."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from airflow_provider_firecrest.airflow_internals import rights
from airflow_provider_firecrest.monitoring.metrics import metrics_of
from airflow_provider_firecrest.web.found_job import JOB, FoundJob
from airflow_provider_firecrest.web.templating import duration, moment, node_hours, page
from airflow_provider_firecrest.web.viewers import Viewer
from firecrest_core import curve
from firecrest_core.jobs.snapshot import JobSnapshot
from firecrest_core.usage import JobUsage

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
        ("Used", _usage(seen)),
        ("Submitted", moment(seen.submitted_at)),
        ("Waited", duration(job.waited)),
        ("Started", moment(seen.started_at)),
        ("Ended", moment(seen.ended_at)),
        ("Last seen", moment(seen.seen_at)),
    ]
    files = [("Directory", seen.working_dir), ("Output", seen.stdout), ("Errors", seen.stderr)]
    metrics = metrics_of(job.row)
    curves = [] if metrics is None else [curve.svg(name, one.points) for name, one in metrics.series.items()]
    values = {
        "job": job,
        "curves": [Markup(one) for one in curves],  # made by an XML library
        "resources": resources,
        "files": files,
        "may_cancel": job.is_watched and rights.may_cancel(viewer, job.row.dag_id),
        "may_read_script": rights.may_read_script(viewer, job.row.dag_id),
    }
    return page(request, "job.html", values)


def _usage(seen: JobSnapshot) -> str:
    if not seen.usage:
        return ""
    try:
        return JobUsage.from_dict(seen.usage).summary(seen.elapsed).removeprefix("used ")
    except (TypeError, ValueError, OverflowError):  # somebody has edited what the task had stored
        return ""
