"""Cancelling the job that a task has submitted when the transaction around the task is rolled back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from prefect.transactions import get_transaction

from prefect_firecrest.cancellation.monitor import JobMonitor
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from prefect.transactions import BaseTransaction

    from prefect_firecrest.job_runs import FirecRESTJobRun

# Under this name a task's transaction keeps the job run.
_SUBMITTED = "firecrest-submitted"


def remember_submitted(job_run: FirecRESTJobRun) -> FirecRESTJobRun:
    """Keep in the current transaction what the current task has submitted, and return it."""
    if (transaction := get_transaction()) is not None:
        transaction.set(_SUBMITTED, job_run)
    return job_run


def cancel_submitted(transaction: BaseTransaction) -> None:
    """Cancel what a task has submitted whose transaction is rolled back."""
    if job_run := _to_cancel(transaction):
        job_run.cancel()


async def acancel_submitted(transaction: BaseTransaction) -> None:
    """Do what :func:`cancel_submitted` does, in a coroutine."""
    if job_run := _to_cancel(transaction):
        await job_run.acancel()


def _to_cancel(transaction: BaseTransaction) -> FirecRESTJobRun | None:
    # A process that is stopped, and a flow run that is suspended, roll back too; their jobs have to go on.
    error = sys.exc_info()[1]
    if error is not None and not isinstance(error, Exception):
        return None
    job_run: FirecRESTJobRun | None = transaction.get(_SUBMITTED, None)
    return job_run if job_run is not None and runtime.state(JobMonitor).is_alive(job_run.job) else None
