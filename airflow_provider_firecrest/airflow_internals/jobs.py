"""The DAG runs and the stored jobs that the API server reads from the database, always by an index."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_provider_firecrest.airflow_internals.chunks import chunks

LONGEST_JOB = 64 * 1024
"""Characters of a stored value that are read. A snapshot with its history takes a few thousand."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A DAG run.

    :param number: the number of its row; databases use the numbers of deleted rows again
    :param run_after: Unix time at which it may begin
    :param updated_at: Unix time of its last change
    """

    number: int
    dag_id: str
    run_id: str
    run_after: float
    updated_at: float | None


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A value that a task instance has stored about its job or jobs.

    :param run: the number of the run
    :param is_xcom: it is an XCom, and not a value of the task state store
    :param stamp: Unix time at which it was stored
    :param value: its JSON; ``None`` if it is too long, or not newer than asked for
    :param is_long: it is longer than :data:`LONGEST_JOB`
    :param task_state: the state of the task instance
    :param try_number: the number of its current try; ``None`` if it is no longer there
    """

    run: int
    task_id: str
    map_index: int
    key: str
    is_xcom: bool
    stamp: float
    value: str | None
    is_long: bool
    task_state: str | None
    try_number: int | None


def runs_by_date(since: float, before: StoredRun | None, limit: int) -> list[StoredRun]:
    """Return runs of a span of time, the newest first.

    It stands on the table of ``DagRun``, and on its index of ``run_after``.

    :param since: Unix time
    :param before: the run after which to go on; ``None`` begins with the newest
    :param limit: how many at most
    """
    from airflow.models.dagrun import DagRun
    from sqlalchemy import and_, or_

    query = _runs().where(DagRun.run_after >= _date(since))
    if before is not None:
        last = _date(before.run_after)
        query = query.where(DagRun.run_after <= last, or_(DagRun.run_after < last, and_(DagRun.id < before.number)))
    return _read_runs(query.order_by(DagRun.run_after.desc(), DagRun.id.desc()).limit(limit))


def active_runs() -> list[StoredRun]:
    """Return the runs that are queued or running.

    It stands on the table of ``DagRun``, and on the partial indexes of these two states, which databases use only for a
    state that is written in the query itself.
    """
    from airflow.models.dagrun import DagRun
    from sqlalchemy import bindparam

    found: list[StoredRun] = []
    for state in ("queued", "running"):  # a run that starts meanwhile is found twice, and not missed
        found += _read_runs(_runs().where(DagRun._state == bindparam(None, state, literal_execute=True)))
    return found


def runs_after_number(number: int, limit: int) -> list[StoredRun]:
    """Return the runs that were made after another one, the oldest first.

    It stands on the table of ``DagRun``, whose numbers grow.

    :param number: the number of that run
    :param limit: how many at most
    """
    from airflow.models.dagrun import DagRun

    return _read_runs(_runs().where(DagRun.id > number).order_by(DagRun.id).limit(limit))


def last_run_number() -> int:
    """Return the highest number of a DAG run; 0 if there is none.

    It stands on the table of ``DagRun``.
    """
    from airflow.models.dagrun import DagRun
    from sqlalchemy import func, select

    with _session() as session:
        return session.scalar(select(func.max(DagRun.id))) or 0


def runs_by_number(numbers: Collection[int]) -> list[StoredRun]:
    """Return those of some runs that are still there.

    It stands on the table of ``DagRun``.

    :param numbers: the numbers of the runs
    """
    from airflow.models.dagrun import DagRun

    return [run for some in chunks(numbers) for run in _read_runs(_runs().where(DagRun.id.in_(some)))]


def run_by_name(dag_id: str, run_id: str) -> StoredRun | None:
    """Return a run.

    It stands on the table of ``DagRun``, and on its unique names.

    :param dag_id: its DAG
    :param run_id: its name
    """
    from airflow.models.dagrun import DagRun

    found = _read_runs(_runs().where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    return found[0] if found else None


def stored_jobs(
    runs: Collection[int],
    xcom_key: str,
    store_key: str,
    *,
    newer_than: float | None = None,
    task: tuple[str, int] | None = None,
) -> list[StoredJob]:
    """Return what the tasks of some runs have stored about their jobs.

    It stands on the tables of ``XComModel`` and ``TaskStateStoreModel``, whose keys begin with the run's number, and on
    that of ``TaskInstance``.

    :param runs: the numbers of the runs
    :param xcom_key: the key of the XComs; keys that begin with it and a dot count, too
    :param store_key: the key in the task state store
    :param newer_than: Unix time: leave out the values that were stored earlier; ``None`` reads them all
    :param task: a task id with its map index, to read what that one has stored
    """
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.models.xcom import XComModel as XCom

    found: list[StoredJob] = []
    with _session() as session:
        for some in chunks(runs):
            for table, is_xcom in ((XCom, True), (Stored, False)):
                query = _jobs(table, is_xcom, newer_than).where(table.dag_run_id.in_(some))
                if is_xcom:
                    below = table.key.startswith(f"{xcom_key}.", autoescape=True)
                    query = query.where((table.key == xcom_key) | below)
                else:
                    query = query.where(table.key == store_key)
                if task is not None:
                    query = query.where(table.task_id == task[0], table.map_index == task[1])
                for run, task_id, index, key, stamp, value, is_long, state, try_number in session.execute(query):
                    at = stamp.timestamp()
                    found.append(
                        StoredJob(run, task_id, index, key, is_xcom, at, value, bool(is_long), state, try_number)
                    )
    return found


def _jobs(table: Any, is_xcom: bool, newer_than: float | None) -> Any:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import Text, and_, case, cast, false, func, select, true

    stamp = table.timestamp if is_xcom else table.updated_at
    value = cast(table.value, Text) if is_xcom else table.value
    is_newer = true() if newer_than is None else stamp > _date(newer_than)
    is_long = case((is_newer, func.length(value) > LONGEST_JOB), else_=false())
    read = case((and_(is_newer, func.length(value) <= LONGEST_JOB), value), else_=None)
    same = and_(
        TaskInstance.dag_id == table.dag_id,
        TaskInstance.task_id == table.task_id,
        TaskInstance.run_id == table.run_id,
        TaskInstance.map_index == table.map_index,
    )
    columns = (table.dag_run_id, table.task_id, table.map_index, table.key, stamp, read, is_long)
    return select(*columns, TaskInstance.state, TaskInstance.try_number).join_from(
        table, TaskInstance, same, isouter=True
    )


def _runs() -> Any:
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    return select(DagRun.id, DagRun.dag_id, DagRun.run_id, DagRun.run_after, DagRun.updated_at)


def _read_runs(query: Any) -> list[StoredRun]:
    with _session() as session:
        return [
            StoredRun(number, dag_id, run_id, run_after.timestamp(), updated_at and updated_at.timestamp())
            for number, dag_id, run_id, run_after, updated_at in session.execute(query)
        ]


@contextmanager
def _session() -> Iterator[Any]:
    from airflow.utils.session import create_session

    with create_session() as session:
        yield session


def _date(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, UTC)
