"""`/compute`: submits jobs to the scheduler, and shows them as FirecREST merges the scheduler's two views."""

import time
from enum import StrEnum
from typing import Annotated, Any

from anyio import sleep
from fastapi import APIRouter, Depends, Path, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from firecrest_local.api.checks import RequestChecks
from firecrest_local.api.request_body import RequestBody
from firecrest_local.errors import ApiError, CommandTimeout
from firecrest_local.scheduler.interface import JobDescription, JobQuery, Row
from firecrest_local.site import Site

JobId = Annotated[str, Path(pattern="^[a-zA-Z0-9]+$")]
#: A null byte ends a command's argument.
NO_NULL_BYTE = r"^[^\x00]*$"


class TimeWindow(StrEnum):
    """The period that the list covers."""

    HOUR = "1h"
    EIGHT_HOURS = "8h"
    DAY = "24h"
    THREE_DAYS = "3d"
    WEEK = "7d"

    @property
    def seconds(self) -> int:
        """The length in seconds."""
        return int(self.value[:-1]) * {"h": 3600, "d": 86400}[self.value[-1]]


class JobFields(RequestBody):
    """The job of a submission."""

    name: str | None = None
    account: str | None = None
    reservation: str | None = None
    partition: str | None = None
    working_directory: str
    standard_input: str | None = None
    standard_output: str | None = None
    standard_error: str | None = None
    env: dict[str, str] = Field(default_factory=lambda: {"F7T_version": "v2.0.0"})
    constraints: str | None = None
    script: str = ""
    script_path: str = ""


class Submission(RequestBody):
    """The body of a submission."""

    job: JobFields


class Attachment(RequestBody):
    """The body of an attach request."""

    command: str = ""


def merge(accounted: list[Row], queued: list[Row]) -> list[Row]:
    """Return one row for each id: the row of the accounting, unless the queue says that the job is pending."""
    rows = {row["jobId"]: row for row in accounted}
    for row in queued:
        if row["jobId"] not in rows or row["status"]["state"] == "PENDING":
            rows[row["jobId"]] = row
    return list(rows.values())


def job_description(job: JobFields) -> JobDescription:
    """Convert the body of a submission to what the scheduler takes."""
    return JobDescription(
        working_dir=job.working_directory,
        script=job.script or None,
        script_path=job.script_path or None,
        name=job.name,
        account=job.account,
        reservation=job.reservation,
        partition=job.partition,
        constraints=job.constraints,
        standard_input=job.standard_input,
        standard_output=job.standard_output,
        standard_error=job.standard_error,
        environment=job.env,
    )


def router(site: Site) -> APIRouter:
    """Make the endpoints."""
    checks = RequestChecks(site)
    required = [Depends(check) for check in (checks.authenticated, checks.known_system, checks.healthy_scheduler)]
    routes = APIRouter(prefix="/compute/{system_name}/jobs", dependencies=required)
    scheduler = site.scheduler

    @routes.post("", status_code=201)
    async def submit(submission: Submission) -> dict[str, Any]:
        timeout_at = time.monotonic() + site.settings.command_timeout
        try:
            return {"jobId": await run_in_threadpool(scheduler.submit, job_description(submission.job))}
        except CommandTimeout:
            # The command hangs until its timeout, so the answer comes that late.
            await sleep(max(0.0, timeout_at - time.monotonic()))
            raise

    @routes.get("")
    def jobs(
        allusers: bool = False,
        account: Annotated[str | None, Query(pattern=NO_NULL_BYTE)] = None,
        name: Annotated[str | None, Query(max_length=235, pattern=NO_NULL_BYTE)] = None,
        time_window: TimeWindow = TimeWindow.DAY,
    ) -> dict[str, Any]:
        query = JobQuery(
            names=tuple(name.split(",")) if name else (),
            account=account or None,
            since=time.time() - time_window.seconds,
            all_users=allusers,
        )
        return {"jobs": merge(scheduler.accounted(query), scheduler.queued(query))}

    @routes.get("/{job_id}")
    def job(job_id: JobId) -> dict[str, Any]:
        query = JobQuery(job_id=job_id)
        rows = merge(scheduler.accounted(query), scheduler.queued(query))
        if not rows:
            raise ApiError(404, "Job not found.")
        return {"jobs": rows}

    @routes.get("/{job_id}/metadata")
    def metadata(job_id: JobId) -> dict[str, Any]:
        rows = scheduler.metadata(job_id)
        if rows is None:
            raise ApiError(404, "Job not found.")
        return {"jobs": rows}

    @routes.put("/{job_id}/attach", status_code=204)
    def attach(job_id: JobId, attachment: Attachment) -> None:
        scheduler.attach(job_id, attachment.command)

    @routes.delete("/{job_id}", status_code=204)
    def cancel(job_id: JobId) -> None:
        scheduler.cancel(job_id)

    return routes
