"""Which failures are worth another try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firecrest_core.errors import FirecRESTError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State, TaskRun


def is_retryable(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """Tell whether another try may succeed: the ``retry_condition_fn`` of the tasks here, and for your own.

    Retried are a node that failed, preemption, a server or network that was away, and a file that did not arrive whole.
    Not retried are a script that failed, too little memory or time, a job that was cancelled, and what the user has to
    correct. For an error that is not FirecREST's, ``retries`` alone decides.
    """
    error = state.data
    return error.retryable if isinstance(error, FirecRESTError) else True
