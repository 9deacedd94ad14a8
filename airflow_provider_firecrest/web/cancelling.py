"""Cancelling a job from its page: a question, and then its task is marked failed, in the name of who has asked.

Whatever ends a job ends its task first, so that the task's retries and its claim follow. The reconciler then cancels
the job. A browser sends a login's cookie with each request, also with one that another site has made it send: so the
answer to the question has to come from this page, with what was written into its form.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.concurrency import run_in_threadpool

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import MarkRefused, rights
from airflow_provider_firecrest.web.found_job import JOB, FoundJob
from airflow_provider_firecrest.web.job_view import JobView
from airflow_provider_firecrest.web.templating import address, page
from airflow_provider_firecrest.web.viewers import Viewer

routes = APIRouter()

_SECONDS = 3600
_LONGEST_FORM = 4096


@routes.get(f"{JOB}/cancel")
def ask(request: Request, viewer: Viewer, job: FoundJob) -> HTMLResponse:
    """Ask whether the job is to be cancelled.

    :param request: the request
    :param viewer: the user
    :param job: the job
    """
    _check(viewer, job)
    return page(request, "cancel.html", {"job": job, "token": _signer().dumps(_content(viewer, job))})


@routes.post(f"{JOB}/cancel")
async def cancel(request: Request, viewer: Viewer, job: FoundJob) -> RedirectResponse:
    """Mark the job's task failed, and show the job.

    :param request: the request
    :param viewer: the user
    :param job: the job
    """
    if not is_same_origin(request):
        raise HTTPException(403, "This request does not come from Airflow's own page.")
    await run_in_threadpool(_check, viewer, job)
    try:
        if _signer().loads(await _token(request), max_age=_SECONDS) != _content(viewer, job):
            raise BadSignature("of another job or viewer")
    except BadSignature:
        raise HTTPException(403, "The form is too old, or not yours. Open the job's page again.") from None
    row = job.row
    try:
        await airflow_internals.mark_failed(request.headers, row.dag_id, row.run_id, row.task_id, row.map_index)
    except MarkRefused as error:
        raise HTTPException(
            error.status, f"Airflow did not mark the task failed ({error.status}). Its own page of the task says why."
        ) from None
    return RedirectResponse(address(request, *job.address), 303)


def is_same_origin(request: Request) -> bool:
    """Tell whether a page of this very site has made the browser send a request.

    :param request: the request
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == request.headers.get("host")


def _check(viewer: Any, job: JobView) -> None:
    if not rights.may_cancel(viewer, job.row.dag_id):
        raise HTTPException(403, "You may not change the tasks of this DAG, and so not cancel their jobs.")
    if not job.is_watched:
        raise HTTPException(409, "The job has ended, or its task has: there is nothing to cancel.")


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(airflow_internals.signing_key(), salt="firecrest cancel")


def _content(viewer: Any, job: JobView) -> list[str]:
    return [viewer.get_id(), *map(str, job.address)]


async def _token(request: Request) -> str:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise HTTPException(413, "The form is too long.")
    return parse_qs(body.decode(errors="replace")).get("token", [""])[0]
