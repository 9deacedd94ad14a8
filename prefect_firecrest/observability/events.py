"""Events of jobs in Prefect's feed, for people and for automations.

``firecrest.job.submitted``, ``firecrest.job.running`` and ``firecrest.job.ended``, of the resource
``firecrest.job.<system>.<job id>``, which carries the job's state. Prefect adds the flow run, the task run, their
flow, deployment and tags as related resources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from uuid import UUID

    from firecrest_core.jobs.job import Job
    from firecrest_core.result import JobResult
    from firecrest_core.states import JobState

Kind = Literal["submitted", "running", "ended"]

# Prefect refuses an event that is too large, so the elements of an array are not among these.
_PAYLOAD = (
    "job_id",
    "system",
    "name",
    "working_dir",
    "stdout",
    "stderr",
    "reason",
    "exit_code",
    "signal",
    "elapsed",
    "nodes",
    "node_count",
)


def emit(
    kind: Kind,
    job: Job | JobResult,
    state: JobState,
    *,
    flow_run_id: UUID | None = None,
) -> None:
    """Send an event; Prefect does that in the background.

    :param state: where the job is
    :param flow_run_id: the flow run that the job belongs to, where it is not the current one
    """
    from prefect.events import emit_event

    related = [{"prefect.resource.id": f"firecrest.system.{job.system}", "prefect.resource.role": "system"}]
    if flow_run_id is not None:
        related.append({"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": "flow-run"})
    emit_event(
        event=f"firecrest.job.{kind}",
        resource={
            "prefect.resource.id": f"firecrest.job.{job.system}.{job.job_id}",
            "prefect.resource.name": f"{job.job_id} ({job.name})" if job.name else job.job_id,
            "firecrest.job.id": job.job_id,
            "firecrest.job.state": state.value,
            "firecrest.system": job.system,
        },
        related=related,
        payload={name: value for name in _PAYLOAD if (value := getattr(job, name, None)) not in (None, "")},
    )
