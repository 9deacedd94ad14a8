"""Shows on pages that jobs were cancelled with their tasks: nobody waits for these jobs who would tell of their end."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import StoredValue
from airflow_provider_firecrest.cancellation.record_sources import first_line
from airflow_provider_firecrest.cancellation.scan import ScannedRecord
from airflow_provider_firecrest.job_snapshots import SNAPSHOT_KEY

log = logging.getLogger(__name__)

_AT_ONCE = 100
"""Tasks whose snapshots are changed in one transaction: others wait for its end."""

_Place = tuple[str, str]  # system and job id; the id is empty if the answer to the submission is unknown


async def show_cancelled(records: Iterable[ScannedRecord]) -> None:
    """Say in the snapshots of jobs that they were cancelled. What cannot be shown does no harm.

    :param records: the records of tasks that have ended, whose jobs were cancelled
    """
    jobs: defaultdict[Any, set[_Place]] = defaultdict(set)
    tasks: dict[Any, StoredValue] = {}
    for one in records:
        tasks[_task(one.stored)] = one.stored
        jobs[_task(one.stored)] |= {(job["system"], job["job_id"]) for job in one.record.jobs}

    def change(task: StoredValue, value: dict[str, Any]) -> dict[str, Any] | None:
        return as_cancelled(value, jobs[_task(task)])

    waiting = list(tasks.values())
    try:
        while waiting:
            some, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
            await asyncio.to_thread(airflow_internals.change_xcoms, some, SNAPSHOT_KEY, change)
    except Exception as error:
        log.debug("It is not shown that the jobs of ended tasks were cancelled: %s", first_line(error))


def as_cancelled(value: dict[str, Any], jobs: set[_Place]) -> dict[str, Any] | None:
    """Return the snapshot of a job that was cancelled with its task.

    :param value: the snapshot as the task has stored it
    :param jobs: system and id of the jobs that were cancelled; an empty id stands for the job of the task
    :returns: ``None`` if it is no snapshot, its job has ended before, or was not cancelled
    """
    from firecrest_core.jobs.history import cancelled
    from firecrest_core.jobs.snapshot import JobSnapshot

    try:
        seen = JobSnapshot.from_dict(value)
    except (KeyError, TypeError, ValueError):
        return None
    if seen.state.ended or jobs.isdisjoint({(seen.system, seen.job_id), (seen.system, "")}):
        return None
    return cancelled(seen, "The task has ended").to_dict()


def _task(stored: StoredValue) -> Any:
    return stored.dag_run, stored.dag_id, stored.task_id, stored.map_index
