"""When the jobs of a task are cancelled: only when a person, or a limit that a person set, has ended the task.

Airflow stops tasks and triggers for many reasons (a worker is stopped, a triggerer is restarted or loses its
heartbeat) and does not say which. The task's state tells: it is final if a person has marked the task, and the task is
gone if a person has deleted its run. In every other state a newer try may go on with the very job, so a late worker or
triggerer must leave it alone. The same holds if the task was cleared: the new try and
:mod:`airflow_provider_firecrest.cancellation.reconciler` cancel what the earlier run left.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Any

from airflow.sdk import TaskInstanceState

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import TaskDeleted

_FINISHED = (
    TaskInstanceState.SUCCESS,
    TaskInstanceState.FAILED,
    TaskInstanceState.SKIPPED,
    TaskInstanceState.UPSTREAM_FAILED,
    TaskInstanceState.REMOVED,
)


class EndReason(StrEnum):
    """Why a task, or the run of it that has submitted a job, is at its end. The values complete a sentence."""

    FINISHED = "has ended"
    CLEARED = "was cleared"
    DELETED = "was deleted"
    DELETED_WITH_RUN = "was deleted with its run"

    @property
    def final(self) -> bool:
        """No newer run of the task follows, which would cancel the jobs itself."""
        return self is not EndReason.CLEARED


def is_finished(state: str | None) -> bool:
    """Tell whether a task in this state will never run again by itself.

    :param state: a ``TaskInstanceState`` or its value
    """
    return state in _FINISHED


def cancel_reason(state: str | None, *, cleared: bool) -> EndReason | None:
    """Return why the jobs of a task have to be cancelled; ``None`` while they may go on.

    :param state: the task's
    :param cleared: a person has cleared the task since it submitted them
    """
    if is_finished(state):
        return EndReason.FINISHED
    return EndReason.CLEARED if cleared else None


async def is_awaited(ti: Any, job_id: str) -> bool:
    """Ask Airflow whether a task still waits for its job, and not for one that a newer try has submitted.

    :param ti: the task instance of a trigger
    :param job_id: the job that the trigger has waited for; each try stores the id of its own as XCom ``job_id``
    :raises TaskStateUnknown: Airflow does not answer
    """
    try:
        # In a thread: Airflow's call blocks until its supervisor has answered, over this very event loop.
        state = await asyncio.to_thread(airflow_internals.get_task_state, ti)
    except TaskDeleted:
        return False
    return state == TaskInstanceState.DEFERRED and await airflow_internals.get_xcom(ti, "job_id") == job_id


def ask_cancel_reason(ti: Any) -> EndReason | None:
    """Ask Airflow why the task that has to stop has ended; ``None`` if nobody has ended it.

    :param ti: the task instance, of a worker or of a trigger
    :raises TaskStateUnknown: Airflow does not answer
    """
    try:
        state = airflow_internals.get_task_state(ti)
    except TaskDeleted:
        return EndReason.DELETED
    # A task that is cleared while it runs stays in this state until the scheduler hears of its worker's end.
    return cancel_reason(state, cleared=state == TaskInstanceState.RESTARTING)
