"""What one sees of a task's job in Airflow's UI, stored where a page reads it without asking FirecREST.

The newest :class:`~firecrest_core.jobs.snapshot.JobSnapshot` is an XCom of the task instance. The worker stores it at
the job's submission and at its end, and whoever waits, the trigger or the worker, at each change. A job that another
one of the same try has followed has an XCom of its own. Airflow removes the XComs of a task when its next try begins,
so the jobs of earlier tries are in the task state store as well.

A job must not fail or wait because nobody can see it: what cannot be stored is left out.

Whoever may edit an XCom could send the readers of a page to any file of any connection. So where the output is, is
signed with the secret of the connection, for the very task (:mod:`firecrest_core.jobs.signature`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # Airflow's stub leaves it out

from airflow_provider_firecrest.airflow_internals import get_xcom, push_xcom
from airflow_provider_firecrest.identity import TaskKey, task_key
from airflow_provider_firecrest.newest_xcom import NewestXCom

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.connection import Connection
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.snapshot import JobSnapshot

log = logging.getLogger(__name__)

SNAPSHOT_KEY = "firecrest_job"
"""The XCom that holds the newest snapshot of a task's job."""

FOLLOWED_KEY = f"{SNAPSHOT_KEY}.followed."
"""What the key of the XCom of a job that another one of the same try has followed begins with; its id is the rest."""

ENDED_KEY = "firecrest_ended"
"""Where the task state store holds the snapshots of jobs that have ended, without their history, oldest first."""

_MOST_ENDED = 20


def is_signed(snapshot: JobSnapshot, connection: Connection, task: TaskKey) -> bool:
    """Tell whether the task itself has stored where the output of its job is.

    :param snapshot: what was stored
    :param connection: the one that the snapshot names
    :param task: where it was found
    """
    from firecrest_core.jobs.signature import is_signed

    return is_signed(connection, snapshot.signature, *_content(snapshot, task))


def signed(snapshot: JobSnapshot, connection: Connection, task: TaskKey) -> JobSnapshot:
    """Return the snapshot with a signature of where the output of its job is.

    :param snapshot: what is going to be stored
    :param connection: the one that it names
    :param task: whose job it is
    """
    from firecrest_core.jobs.signature import sign

    return replace(snapshot, signature=sign(connection, *_content(snapshot, task)))


def _content(snapshot: JobSnapshot, task: TaskKey) -> tuple[object, ...]:
    where = snapshot.connection_id, snapshot.system, snapshot.working_dir, snapshot.stdout, snapshot.stderr
    return SNAPSHOT_KEY, task, *where


def push(ti: Any, snapshot: JobSnapshot, connection: Connection) -> None:
    """Store the newest snapshot of a task's job, in a worker.

    :param ti: the task instance
    :param snapshot: the snapshot
    :param connection: the one that it names
    """
    try:
        ti.xcom_push(key=SNAPSHOT_KEY, value=signed(snapshot, connection, task_key(ti)).to_dict())
    except Exception as error:
        _is_not_stored(snapshot, error)


def push_followed(ti: Any, snapshot: JobSnapshot, connection: Connection) -> None:
    """Store the snapshot of a job that another one has followed, in a worker.

    :param ti: the task instance
    :param snapshot: the snapshot
    :param connection: the one that it names
    """
    try:
        value = signed(snapshot, connection, task_key(ti)).to_dict()
        ti.xcom_push(key=f"{FOLLOWED_KEY}{snapshot.job_id}", value=value)
    except Exception as error:
        _is_not_stored(snapshot, error)


async def apush_followed(ti: Any, snapshot: JobSnapshot, connection: Connection) -> None:
    """Do what :func:`push_followed` does, in a trigger.

    :param ti: the task instance of the trigger
    :param snapshot: the snapshot
    :param connection: the one that it names
    """
    try:
        value = signed(snapshot, connection, task_key(ti)).to_dict()
        await push_xcom(ti, f"{FOLLOWED_KEY}{snapshot.job_id}", value)
    except Exception as error:
        _is_not_stored(snapshot, error)


async def aread(ti: Any, job: Job) -> JobSnapshot | None:
    """Return the newest snapshot of a job of the task, in a trigger; ``None`` if there is none of this job.

    :param ti: the task instance of the trigger
    :param job: the job
    """
    from firecrest_core.jobs.snapshot import JobSnapshot

    for key in (SNAPSHOT_KEY, f"{FOLLOWED_KEY}{job.job_id}"):
        try:
            stored = JobSnapshot.from_dict(await get_xcom(ti, key))
        except Exception as error:
            log.debug("The earlier snapshot of %s on %s cannot be read: %s", job, job.system, error)
            continue
        if (stored.system, stored.job_id) == (job.system, job.job_id):
            return stored
    return None


class NewestSnapshot(NewestXCom["JobSnapshot"]):
    """Stores the newest snapshot of a task's job beside a trigger that waits.

    :param ti: the task instance of the trigger
    :param load: reads the connection that the snapshots name
    """

    def __init__(self, ti: Any, load: Callable[[], Awaitable[Connection]]) -> None:
        super().__init__(ti, SNAPSHOT_KEY)
        self._load = load
        self._connection: Connection | None = None

    async def to_json(self, value: JobSnapshot) -> dict[str, Any]:
        """Return the signed snapshot.

        :param value: the snapshot
        """
        self._connection = self._connection or await self._load()
        return signed(value, self._connection, task_key(self.ti)).to_dict()


def keep_ended(context: Context, snapshot: JobSnapshot, connection: Connection) -> None:
    """Store the snapshot of a job that has ended where it outlives the try, in a worker.

    :param context: the task's
    :param snapshot: the snapshot; it takes the place of an older one of the same job
    :param connection: the one that it names
    """
    try:
        stored: Any = context["task_state_store"].get(ENDED_KEY)
        known = stored if isinstance(stored, list) else []  # a person may have edited it
        kept: list[Any] = [one for one in known if isinstance(one, dict) and not _is_same_job(one, snapshot)]
        kept.append(signed(snapshot, connection, task_key(context["ti"])).to_dict() | {"history": []})
        context["task_state_store"].set(ENDED_KEY, kept[-_MOST_ENDED:], retention=NEVER_EXPIRE)
    except Exception as error:
        _is_not_stored(snapshot, error)


def _is_same_job(stored: dict[str, Any], snapshot: JobSnapshot) -> bool:
    return (stored.get("system"), stored.get("job_id")) == (snapshot.system, snapshot.job_id)


def _is_not_stored(snapshot: JobSnapshot, error: Exception) -> None:
    log.debug("The snapshot of job %s on %s is not stored: %s", snapshot.job_id, snapshot.system, error)
