"""Whether a task has ended in Airflow: only then may those who are told to stop cancel its job.

Airflow tells tasks and triggers to stop for many reasons (a worker is stopped, a triggerer is restarted or loses
its heartbeat) and does not say which. The task's state in Airflow's database tells: a person who marks the task or
deletes its run ends it. In every other state a newer try may go on with the very job, so that a late worker or
triggerer must leave it alone. Whether it was cleared is not for them to say either: the new try and
:mod:`airflow_provider_firecrest.sweeper` end what the earlier run left.
"""

from __future__ import annotations

from typing import Any

ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed", "deleted"})
"""Also ``deleted``, which is ours: of a task that is no longer there."""

CLEARED = "restarting"
"""Airflow's state of a task that was cleared while it ran, until its scheduler hears of the worker's end."""


def state_of(ti: Any) -> str | None:
    """Ask Airflow for the state of the task that is told to stop.

    :param ti: the task instance, of a worker or of a trigger
    :returns: the state; ``deleted`` when the task was deleted with its run
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
    state: str | None = states.get(ti.run_id, {}).get(key, "deleted")
    return state
