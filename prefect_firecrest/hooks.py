"""A hook for flows of your own: it cancels their jobs when the flow run is cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_firecrest.cancellation import records
from prefect_firecrest.cancellation.cancel import cancel_with_saved_credentials
from prefect_firecrest.cancellation.monitor import JobMonitor
from prefect_firecrest.cancellation.policy import EndReason
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun, State


def cancel_jobs(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel the jobs of a flow run: ``@flow(on_cancellation=[cancel_jobs])``.

    A flow's process does so by itself. The hook is for processes that are killed at once; the runner calls it.
    """
    runtime.run(_cancel_jobs(flow_run.id))


async def _cancel_jobs(flow_run_id: UUID) -> None:
    from prefect.client.orchestration import get_client

    await runtime.state(JobMonitor).scan()  # in the flow's own process, which knows more than the records
    async with get_client() as client:
        artifacts = [one for one in await records.read(client) if flow_run_id in one.flow_runs]
        await cancel_with_saved_credentials(artifacts, EndReason.CANCELLED)
        await records.delete(client, [one.id for one in artifacts])
