"""The page of a job in the centre's own web interface, by ``job_url`` of the credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firecrest_core.job_pages import job_url

if TYPE_CHECKING:
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.status import JobStatus
    from firecrest_core.result import JobResult


def centre_page(template: str, job: Job | JobResult, seen: JobStatus | JobResult | None = None) -> str:
    """Return the URL of a job's page; an empty text without a template.

    :param template: ``job_url`` of the credentials
    :param job: the job, or its result
    :param seen: where it is, or how it ended, if that is known
    """
    started_at = seen.started_at if seen is not None else None
    return job_url(
        template,
        system=job.system,
        job_id=job.job_id,
        name=job.name or (seen.name if seen is not None else ""),
        account=getattr(seen, "account", ""),
        partition=getattr(seen, "partition", ""),
        nodes=seen.nodes if seen is not None else "",
        start=(job.submitted_at or None) if started_at is None else started_at,
        end=getattr(seen, "ended_at", None),
    )
