"""Which jobs end with a task, written down where they can be read when no process of the task is left.

Airflow's task state store belongs to a task of a run, and all of its tries share it. While a task has jobs, the entry
``firecrest_jobs`` there names them; :mod:`airflow_provider_firecrest.sweeper` reads it in Airflow's database. The
entry goes when the jobs have ended, and with the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.client import FirecRESTClient
    from firecrest_core.job import Job

KEY = "firecrest_jobs"


@dataclass(frozen=True)
class Entry:
    """The jobs of one run of a task.

    :param firecrest_conn_id: where they were submitted
    :param max_tries: the task's, which stays over automatic retries and changes when a person clears the task;
        ``None`` once it is known that it was cleared
    :param jobs: as ``firecrest_core.job.Job.to_dict`` gives them, and no more of it than ending them takes
    """

    firecrest_conn_id: str
    max_tries: int | None
    jobs: list[dict[str, Any]]

    @classmethod
    def of(cls, context: Context) -> Entry | None:
        """Read the task's entry."""
        stored: Any = context["task_state_store"].get(KEY)
        return cls(**stored) if stored else None

    def write(self, context: Context) -> None:
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        # An array's indices may be more than the store takes.
        jobs = [job | {"array_indices": None, "stdout": None, "stderr": None} for job in self.jobs]
        context["task_state_store"].set(KEY, asdict(self) | {"jobs": jobs}, retention=NEVER_EXPIRE)


def erase(context: Context) -> None:
    """Forget the task's jobs: they have ended, or shall outlive it."""
    context["task_state_store"].delete(KEY)


async def end(client: FirecRESTClient, job: Mapping[str, Any]) -> None:
    """Cancel a job, and with a claim all that were or will be submitted for the same run of the task."""
    from firecrest_core import lifecycle

    ours = _job(job)
    if ours.key is None:
        await lifecycle.cancel(client, ours.system, ours.job_id)
    else:
        await lifecycle.cancel_epoch(client, ours.system, ours.working_directory, ours.key.identity, ours.key.epoch)


async def stop(client: FirecRESTClient, job: Mapping[str, Any]) -> None:
    """Cancel a job and wait for its end, so that the next try runs it anew; one without an id is left to that try."""
    from firecrest_core import lifecycle

    ours = _job(job)
    if ours.job_id:
        await lifecycle.cancel(client, ours.system, ours.job_id)
        await lifecycle.until_ended(client, ours)


async def end_for_good(client: FirecRESTClient, job: Mapping[str, Any]) -> None:
    """Do what :func:`end` does, and wait until nothing runs any more."""
    from firecrest_core import lifecycle

    ours = _job(job)
    if ours.key is None:
        await stop(client, job)
    else:
        await lifecycle.end_older(client, ours.system, ours.working_directory, ours.key.next_epoch())


def _job(job: Mapping[str, Any]) -> Job:
    from firecrest_core.job import Job

    return Job.from_dict(job)


def told(jobs: list[dict[str, Any]]) -> str:
    """Name jobs in a message."""
    return ", ".join(f"job {job['job_id'] or 'without an id yet'} on {job['system']}" for job in jobs)
