"""Which failures are worth another try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firecrest_core.errors import FirecRESTError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State, TaskRun


def can_get_better(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """Tell whether another try may go well: the ``retry_condition_fn`` of the tasks here, and for your own.

    Tried again are a node that failed, preemption, a server or network that was away, and a file that did not arrive
    whole. Not tried again are a script that failed, too little memory or time, a job that was cancelled, and what the
    user has to mend. Whatever is not of FirecREST is left to ``retries`` alone.
    """
    error = state.data
    return error.retryable if isinstance(error, FirecRESTError) else True
