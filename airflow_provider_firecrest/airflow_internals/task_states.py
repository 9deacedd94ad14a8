"""What Airflow says of the state of a task instance."""

from __future__ import annotations

from typing import Any


class TaskDeleted(Exception):
    """The task instance is no longer there."""


class TaskStateUnknown(Exception):
    """Airflow does not say in which state a task instance is."""


def get_task_state(ti: Any) -> str | None:
    """Ask Airflow for the state of a task instance.

    It stands on ``RuntimeTaskInstance.get_task_states``, which ``airflow.sdk`` declares as a method of a task instance
    but a trigger's task instance does not have, and on the names that the answer gives to elements of mapped tasks. In
    a signal handler, which may have interrupted another question, Airflow refuses it by ``DeadlockImminentError``.

    :param ti: the task instance, of a worker or of a trigger
    :raises TaskDeleted: it is no longer there
    :raises TaskStateUnknown: Airflow does not answer
    """
    from airflow.sdk.execution_time.comms import DeadlockImminentError
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    mapped = ti.map_index is not None and ti.map_index >= 0
    try:
        states = RuntimeTaskInstance.get_task_states(
            dag_id=ti.dag_id,
            map_index=ti.map_index if mapped else None,
            task_ids=[ti.task_id],
            run_ids=[ti.run_id],
        )
    except (Exception, DeadlockImminentError) as error:
        raise TaskStateUnknown(str(error)) from error
    try:
        state: str | None = states[ti.run_id][f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id]
    except KeyError:
        raise TaskDeleted(f"{ti.dag_id}.{ti.task_id} of {ti.run_id}") from None
    return state
