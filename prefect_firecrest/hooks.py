"""What Prefect calls when a transaction is rolled back, or a flow run is cancelled."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from prefect_firecrest import guard
from prefect_firecrest.background import run

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun, State
    from prefect.transactions import BaseTransaction

    from prefect_firecrest.job_runs import FirecRESTJobRun

SUBMITTED = "firecrest-submitted"
"""Under this name a task's transaction knows what the task has submitted."""


def cancel_submitted(transaction: BaseTransaction) -> None:
    """Cancel what a task has submitted whose transaction is rolled back."""
    if job_run := _to_cancel(transaction):
        job_run.cancel()


async def acancel_submitted(transaction: BaseTransaction) -> None:
    """Do what :func:`cancel_submitted` does, in a coroutine."""
    if job_run := _to_cancel(transaction):
        await job_run.acancel()


def cancel_jobs(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel the jobs of a flow run: a hook for your own flows, ``@flow(on_cancellation=[cancel_jobs])``.

    A flow's process sees to that by itself. The hook is for processes that are killed at once; the runner calls it.
    """
    run(_cancel_jobs(flow_run.id))


async def _cancel_jobs(flow_run_id: UUID) -> None:
    from prefect.client.orchestration import get_client

    from prefect_firecrest import ending, ledger

    await guard.look()  # in the flow's own process, which knows more than is written down
    async with get_client() as client:
        notes = [note for note in await ledger.read(client) if flow_run_id in note.flow_runs]
        await ending.end_noted({entry for note in notes for entry in note.entries})
        await ledger.forget(client, [note.id for note in notes])


def _to_cancel(transaction: BaseTransaction) -> FirecRESTJobRun | None:
    # A process that is stopped, and a flow run that is suspended, roll back too; their jobs shall go on.
    error = sys.exc_info()[1]
    if error is not None and not isinstance(error, Exception):
        return None
    job_run: FirecRESTJobRun | None = transaction.get(SUBMITTED, None)
    return job_run if job_run is not None and guard.is_alive(job_run.job) else None
