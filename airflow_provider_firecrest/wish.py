"""Whether a person wants a task to end: only then may its job be cancelled.

Airflow tells tasks and triggers to stop for many reasons (a worker is stopped, a triggerer is restarted or loses
its heartbeat) and does not say which. The task's state in Airflow's database does: a person's act changes it, the
machinery's doings leave it as it was.
"""

from __future__ import annotations

from typing import Any

# States that a task has without anybody's act, where it waits in a worker and where it waits in the triggerer.
RUNNING = frozenset({"running"})
DEFERRED = frozenset({"deferred", "up_for_retry"})


def person_ended(ti: Any, untouched: frozenset[str]) -> bool:
    """Ask Airflow for the state of the task that is told to stop.

    :param ti: the task instance, of a worker or of a trigger
    :param untouched: the states that mean that nobody did anything
    :returns: ``True`` when the task was marked, cleared, or deleted with its run
    :raises Exception: when Airflow does not answer; then nothing is known
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    mapped = ti.map_index is not None and ti.map_index >= 0
    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id,
        map_index=ti.map_index if mapped else None,
        task_ids=[ti.task_id],
        run_ids=[ti.run_id],
    )
    key = f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id
    return states.get(ti.run_id, {}).get(key) not in untouched
