"""Events of jobs in Prefect's feed, for people and for automations.

``firecrest.job.submitted``, ``firecrest.job.running`` and ``firecrest.job.ended``, of the resource
``firecrest.job.<system>.<job id>``, which carries the job's state. Prefect adds the flow run, the task run, their
flow, deployment and tags as related resources.

Each job ends once, also if several processes say so: Prefect keeps one event of each id, and here the job gives it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid5

if TYPE_CHECKING:
    from collections.abc import Iterable
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


def emit(kind: Literal["submitted", "running"], job: Job, state: JobState) -> None:
    """Send an event of the current flow run; Prefect does that in the background.

    :param state: where the job is
    """
    from prefect.events import emit_event

    emit_event(**_event(kind, job, state))


def emit_ended(result: JobResult, flow_run_id: UUID) -> None:
    """Send that a job of the current flow run has ended; Prefect does that in the background.

    :param flow_run_id: the current flow run
    """
    from prefect.events import emit_event

    emit_event(**_ended(result, flow_run_id))


async def send_ended(results: Iterable[JobResult], flow_run_id: UUID) -> None:
    """Send that jobs of another flow run have ended, and return when that is sent: the process may exit right after.

    :param flow_run_id: the flow run that the jobs belong to
    """
    from prefect.client.orchestration import get_client
    from prefect.events import Event

    flow_run = {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": "flow-run"}
    events = []
    for result in results:
        fields = _ended(result, flow_run_id)
        fields["related"].append(flow_run)
        events.append(Event(**fields).model_dump(mode="json"))
    if events:
        async with get_client() as client:
            await client.request("POST", "/events", json=events)


def _ended(result: JobResult, flow_run_id: UUID) -> dict[str, Any]:
    fields = _event("ended", result, result.state)
    return fields | {"id": uuid5(flow_run_id, f"{fields['event']} {fields['resource']['prefect.resource.id']}")}


def _event(kind: Kind, job: Job | JobResult, state: JobState) -> dict[str, Any]:
    return {
        "event": f"firecrest.job.{kind}",
        "resource": {
            "prefect.resource.id": f"firecrest.job.{job.system}.{job.job_id}",
            "prefect.resource.name": f"{job.job_id} ({job.name})" if job.name else job.job_id,
            "firecrest.job.id": job.job_id,
            "firecrest.job.state": state.value,
            "firecrest.system": job.system,
        },
        "related": [{"prefect.resource.id": f"firecrest.system.{job.system}", "prefect.resource.role": "system"}],
        "payload": {name: value for name in _PAYLOAD if (value := getattr(job, name, None)) not in (None, "")},
    }
