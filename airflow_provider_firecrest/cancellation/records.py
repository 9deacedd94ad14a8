"""Which jobs belong to a task, stored where they can be read when no process of the task is left.

Airflow's task state store belongs to a task of a run, and all tries of the task share it. While a task has jobs, its
record there names them. :mod:`airflow_provider_firecrest.cancellation.reconciler` reads the records in Airflow's
database. When its jobs have ended, the record says so until their claims are removed. It is deleted then, and with the
run.

Whoever may edit a task instance in Airflow's API may write into its store, too. So a record is signed with the secret
of its connection (:mod:`firecrest_core.jobs.signature`), for the very task that it belongs to. Without the right
signature, nothing that it says is acted upon.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # Airflow's stub leaves it out

from airflow_provider_firecrest import stored_json
from airflow_provider_firecrest.identity import TaskKey, task_key

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.connection import Connection

STORE_KEY = "firecrest_jobs"
"""Where the task state store holds a task's record."""


@dataclass(frozen=True)
class JobRecord:
    """The jobs of one run of a task.

    :param firecrest_conn_id: the Airflow connection that they were submitted with
    :param max_tries: the task's, which stays the same over automatic retries and changes when a person clears the task;
        ``None`` once it is known that the task was cleared. It is not signed, because the reconciler notes clears and
        has no secret then; another number does no more than clearing the task: its own jobs are cancelled
    :param jobs: as ``firecrest_core.jobs.job.Job.to_dict`` gives them, with what cancelling them takes
    :param ended: the jobs have ended, and only their claims are left
    :param signature: of all but ``max_tries``, by :meth:`signed`
    """

    firecrest_conn_id: str
    max_tries: int | None
    jobs: list[dict[str, Any]]
    ended: bool = False
    signature: str = ""

    @classmethod
    def read(cls, context: Context) -> JobRecord | None:
        """Read the task's record.

        :param context: the task's
        :returns: ``None`` if it has none
        :raises ValueError: it has another form
        """
        stored: Any = context["task_state_store"].get(STORE_KEY)
        return None if stored is None else cls.parse(json.dumps(stored))

    @classmethod
    def parse(cls, value: str) -> JobRecord:
        """Read a record from its JSON.

        :param value: the JSON
        :raises ValueError: it has another form; the message does not show what it holds
        """
        from firecrest_core.jobs.job import Job

        record = stored_json.read(cls, value)
        jobs = stored_json.read(list[Job], json.dumps(record.jobs))
        return replace(record, jobs=[job.to_dict() for job in jobs])

    def write(self, context: Context, connection: Connection) -> None:
        """Sign the record and store it.

        :param context: the task's
        :param connection: the one that ``firecrest_conn_id`` names
        """
        signed = self.signed(connection, task_key(context["ti"]))
        # An array's indices may be more than the store takes.
        jobs = [job | {"array_indices": None, "stdout": None, "stderr": None} for job in self.jobs]
        context["task_state_store"].set(STORE_KEY, asdict(signed) | {"jobs": jobs}, retention=NEVER_EXPIRE)

    def signed(self, connection: Connection, task: TaskKey) -> JobRecord:
        """Return the record with its signature.

        :param connection: the one that ``firecrest_conn_id`` names
        :param task: whose record it is
        """
        from firecrest_core.jobs.signature import sign

        return replace(self, signature=sign(connection, *self.content(task)))

    def is_signed(self, connection: Connection, task: TaskKey) -> bool:
        """Tell whether a worker of this task has written the record.

        :param connection: the one that ``firecrest_conn_id`` names
        :param task: where the record was found; the record itself does not say whose it is
        """
        from firecrest_core.jobs.signature import is_signed

        return is_signed(connection, self.signature, *self.content(task))

    def content(self, task: TaskKey) -> tuple[object, ...]:
        """Return what is signed: all that a reader acts upon, but ``max_tries``.

        :param task: whose record it is
        """
        jobs = [{name: job[name] for name in ("system", "job_id", "working_dir", "key")} for job in self.jobs]
        return STORE_KEY, task, self.firecrest_conn_id, jobs, self.ended


def delete_record(context: Context) -> None:
    """Delete the task's record, because its jobs have left nothing or are to outlive the task.

    :param context: the task's
    """
    context["task_state_store"].delete(STORE_KEY)


def describe_jobs(jobs: list[dict[str, Any]]) -> str:
    """Name jobs in a message.

    :param jobs: as in :class:`JobRecord`
    """
    return ", ".join(f"job {job['job_id'] or 'without an id yet'} on {job['system']}" for job in jobs)


def same_jobs(reported: list[dict[str, Any]], awaited: list[dict[str, Any]]) -> bool:
    """Tell whether a trigger has reported on the jobs that a try waits for.

    :param reported: as in :class:`JobRecord`
    :param awaited: in the same form; a job without an id was submitted by the trigger, under the same key
    """
    return len(reported) == len(awaited) and all(map(_same_job, reported, awaited))


def _same_job(reported: dict[str, Any], awaited: dict[str, Any]) -> bool:
    if awaited["job_id"]:
        return reported == awaited
    return reported["system"] == awaited["system"] and _run(reported) == _run(awaited)


def _run(job: dict[str, Any]) -> tuple[Any, Any]:
    return job["key"]["identity"], job["key"]["epoch"]
