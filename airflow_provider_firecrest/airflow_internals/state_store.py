"""Airflow's task state store, as its components may read and write it in the database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from airflow_provider_firecrest.airflow_internals.chunks import chunks

LONGEST_VALUE = 256 * 1024
"""Characters of a stored value that are read. A record takes a few hundred."""


@dataclass(frozen=True)
class StoredValue:
    """A value of Airflow's task state store, with what the database says of its task instance.

    :param row: the number of its row; databases use the numbers of deleted rows again
    :param key: its key in the store
    :param value: its JSON, or a reference where workers keep task states in a backend of their own; ``None`` if it is
        longer than :data:`LONGEST_VALUE`
    :param dag_run: number and name of the run
    :param has_task: the task instance is still there
    """

    row: int
    key: str
    value: str | None
    dag_run: tuple[int, str]
    dag_id: str
    task_id: str
    map_index: int
    has_task: bool
    state: str | None
    max_tries: int | None


def read_stored_values(
    key: str,
    *,
    rows: Collection[int] | None = None,
    above: int | None = None,
    dag_runs: Collection[int] | None = None,
    state: str | None = None,
) -> list[StoredValue]:
    """Read the values of tasks in the task state store, with what the database says of their instances.

    It stands on the tables of ``TaskStateStoreModel`` and ``TaskInstance``, and on ``create_session``. There is an
    index for each of the conditions, but none for the key: without a condition, the whole table is read.

    :param key: the key that the tasks have used, or the beginning of it up to a dot
    :param rows: only these rows
    :param above: only rows with a higher number
    :param dag_runs: only those of the runs with these numbers
    :param state: only those of task instances in this state
    """
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import and_, case, func, or_, select

    of_task = and_(
        TaskInstance.dag_id == Stored.dag_id,
        TaskInstance.run_id == Stored.run_id,
        TaskInstance.task_id == Stored.task_id,
        TaskInstance.map_index == Stored.map_index,
    )
    # Columns and not objects: they are read several times as fast.
    query = (
        select(
            Stored.id,
            Stored.key,
            case((func.length(Stored.value) <= LONGEST_VALUE, Stored.value)),
            Stored.dag_run_id,
            Stored.run_id,
            Stored.dag_id,
            Stored.task_id,
            Stored.map_index,
            TaskInstance.task_id.is_not(None),
            TaskInstance.state,
            TaskInstance.max_tries,
        )
        .select_from(Stored)
        .outerjoin(TaskInstance, of_task)
        .where(or_(Stored.key == key, Stored.key.startswith(f"{key}.", autoescape=True)))
    )
    if above is not None:
        query = query.where(Stored.id > above)
    if state is not None:
        query = query.where(TaskInstance.state == state)
    queries = [query]
    if rows is not None:
        queries = [query.where(Stored.id.in_(some)) for some in chunks(rows)]
    if dag_runs is not None:
        queries = [query.where(Stored.dag_run_id.in_(some)) for some in chunks(dag_runs)]
    with create_session() as session:
        return [
            StoredValue(row, key, value, (dag_run, run_id), dag_id, task_id, index, bool(has_task), state, max_tries)
            for each in queries
            for row, key, value, dag_run, run_id, dag_id, task_id, index, has_task, state, max_tries in session.execute(
                each
            )
        ]


def last_stored_row() -> int:
    """Return the highest number of a row of the task state store; 0 if it is empty.

    It stands on the table of ``TaskStateStoreModel``, and on ``create_session``.
    """
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    with create_session() as session:
        return session.scalar(select(func.max(Stored.id))) or 0


def change_stored_values(
    task: StoredValue, keys: Iterable[str], change: Callable[[str], str], *, only_while: str
) -> bool:
    """Change values of a task in the task state store.

    It stands on what :func:`read_stored_values` does.

    :param task: any value of the task
    :param keys: the keys of the values
    :param change: returns the new value for the old one
    :param only_while: the state in which the task instance must still be
    :returns: whether it was in that state
    """
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    state = (
        select(TaskInstance.state)
        .where(
            TaskInstance.dag_id == task.dag_id,
            TaskInstance.run_id == task.dag_run[1],
            TaskInstance.task_id == task.task_id,
            TaskInstance.map_index == task.map_index,
        )
        .with_for_update()
    )
    values = select(Stored).where(
        Stored.dag_run_id == task.dag_run[0],
        Stored.task_id == task.task_id,
        Stored.map_index == task.map_index,
        Stored.key.in_(list(keys)),
    )
    with create_session() as session:
        if session.scalar(state) != only_while:
            return False
        for stored in session.scalars(values.with_for_update().execution_options(populate_existing=True)):
            stored.value = change(stored.value)
    return True


def delete_stored_values(values: Collection[StoredValue]) -> None:
    """Delete values from the task state store, except where a row holds another one by now.

    It stands on the table of ``TaskStateStoreModel``, and on ``create_session``.

    :param values: the values as they were read
    """
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.utils.session import create_session
    from sqlalchemy import and_, bindparam, delete

    table: Any = Stored.__table__
    unchanged = and_(table.c.id == bindparam("row"), table.c.value == bindparam("old"))
    if values:
        with create_session() as session:
            session.execute(delete(table).where(unchanged), [{"row": one.row, "old": one.value} for one in values])


def existing_dag_runs(dag_runs: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    """Return those of some runs that are still there.

    It stands on the table of ``DagRun``, and on ``create_session``.

    :param dag_runs: number and name of each run; databases use the numbers of deleted runs again
    """
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    asked = set(dag_runs)
    query = select(DagRun.id, DagRun.run_id)
    with create_session() as session:
        return {
            (number, name)
            for some in chunks({number for number, _ in asked})
            for number, name in session.execute(query.where(DagRun.id.in_(some)))
        } & asked


def is_reference(value: Any) -> bool:
    """Tell whether a stored value says only where a worker's own state store backend keeps it.

    It stands on the form that ``TaskStateStoreAccessor.set`` gives to such a reference.

    :param value: the value, as parsed JSON
    """
    return isinstance(value, dict) and set(value) == {"__airflow_state_ref__"}
