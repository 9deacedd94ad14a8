"""Which jobs belong to a task, stored where they can be read when no process of the task is left.

Airflow's task state store belongs to a task of a run, and all tries of the task share it. While a task has jobs, its
record there names them. :mod:`airflow_provider_firecrest.cancellation.reconciler` reads the records in Airflow's
database. When its jobs have ended, the record says so until their claims are removed. It is deleted then, and with the
run.

A task's own function may have many jobs, each of which has a record of its own, whose key ends in what identifies it.
The store cannot be listed by a task, so one more value lists these records.

Whoever may edit a task instance in Airflow's API may write into its store, too. So a record is signed with the secret
of its connection (:mod:`firecrest_core.jobs.signature`), for the very task that it belongs to. Without the right
signature, nothing that it says is acted upon.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # Airflow's stub leaves it out

from airflow_provider_firecrest import stored_json
from airflow_provider_firecrest.identity import TaskKey, task_key

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.connection import Connection

STORE_KEY = "firecrest_jobs"
"""Where the task state store holds the record of an operator; those of a function's calls have keys below it."""

_LIST_KEY = "firecrest_call_list"

# Characters of a call's identity that tell it from others.
_LENGTH = 16


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
    def read(cls, context: Context, key: str = STORE_KEY) -> JobRecord | None:
        """Read the task's record.

        :param context: the task's
        :param key: where it is
        :returns: ``None`` if it has none
        :raises ValueError: it has another form
        """
        stored: Any = context["task_state_store"].get(key)
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

    def write(self, context: Context, connection: Connection, key: str = STORE_KEY) -> None:
        """Sign the record and store it.

        :param context: the task's
        :param connection: the one that ``firecrest_conn_id`` names
        :param key: where it goes
        """
        signed = self.signed(connection, task_key(context["ti"]))
        # An array's indices may be more than the store takes.
        jobs = [job | {"array_indices": None, "stdout": None, "stderr": None} for job in self.jobs]
        context["task_state_store"].set(key, asdict(signed) | {"jobs": jobs}, retention=NEVER_EXPIRE)

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


class RecordRefused(ValueError):
    """A record of a task's earlier run cannot be believed. The message says so in the task's log."""


def read_earlier(context: Context, connection: Callable[[str], Connection], key: str = STORE_KEY) -> JobRecord | None:
    """Return the record of an earlier run of a task, which a person has ended by clearing the task.

    :param context: the task's
    :param connection: returns an Airflow connection by its id
    :param key: where the record is
    :returns: ``None`` if there is none, or if its jobs have ended
    :raises RecordRefused: it cannot be read, or no worker of this task has written it
    """
    try:
        earlier = JobRecord.read(context, key)
    except ValueError as error:
        raise RecordRefused(
            f"The record of this task's earlier jobs is ignored: it cannot be read ({error})."
        ) from None
    if earlier is None or earlier.ended or earlier.max_tries == context["ti"].max_tries:
        return None
    if not earlier.is_signed(connection(earlier.firecrest_conn_id), task_key(context["ti"])):
        raise RecordRefused(
            "The task was cleared, but the record of its earlier jobs is ignored: it is not signed with the present "
            f"secret of the connection {earlier.firecrest_conn_id!r}. Somebody has edited it, or the secret was "
            "changed. If an earlier job of this task runs on another system, cancel it by hand (scancel)."
        )
    return earlier


def delete_record(context: Context, key: str = STORE_KEY) -> None:
    """Delete the task's record, because its jobs have left nothing or are to outlive the task.

    :param context: the task's
    :param key: where it is
    """
    context["task_state_store"].delete(key)


def call_record_key(identity: str) -> str:
    """Return where the record of a job is that a task's own function has submitted.

    :param identity: of the call
    """
    return f"{STORE_KEY}.{identity[-_LENGTH:]}"


def list_call_records(context: Context) -> list[str]:
    """Return where the records of the jobs are that a task's own function has submitted, in any of its tries.

    :param context: the task's
    """
    stored: Any = context["task_state_store"].get(_LIST_KEY)
    known = stored if isinstance(stored, list) else []  # a person may have edited it
    return [f"{STORE_KEY}.{one}" for one in known if isinstance(one, str)]


def store_call_records(context: Context, keys: Iterable[str]) -> None:
    """Store the list of :func:`list_call_records`.

    :param context: the task's
    :param keys: where the records are
    """
    known: list[Any] = [key.removeprefix(f"{STORE_KEY}.") for key in keys]
    context["task_state_store"].set(_LIST_KEY, known, retention=NEVER_EXPIRE)


def describe_jobs(jobs: list[dict[str, Any]]) -> str:
    """Name jobs in a message.

    :param jobs: as in :class:`JobRecord`
    """
    return ", ".join(f"job {job['job_id'] or 'without an id yet'} on {job['system']}" for job in jobs)


def same_jobs(reported: list[dict[str, Any]], awaited: list[dict[str, Any]]) -> bool:
    """Tell whether a trigger has reported on the jobs that a try waits for.

    :param reported: as in :class:`JobRecord`
    :param awaited: in the same form; the trigger itself submits a job without an id, and those that follow another one,
        and of alternatives it reports on the one that runs
    """
    return len(reported) == len(awaited) and all(map(_same_job, reported, awaited))


def _same_job(reported: dict[str, Any], awaited: dict[str, Any]) -> bool:
    if reported == awaited:
        return True
    if not reported["key"] or not awaited["key"] or _run(reported) != _run(awaited):
        return False
    return not awaited["job_id"] or reported["key"]["generation"] >= awaited["key"]["generation"]


def _run(job: dict[str, Any]) -> tuple[Any, ...]:
    system = (job.get("home") or job)["system"]  # that of the claim, wherever the job runs
    return system, job["key"]["identity"], job["key"]["epoch"]
