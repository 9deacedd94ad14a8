"""All that this provider uses of Airflow without Airflow's promise to keep it.

Airflow promises its Task SDK, and the bases of triggers, plugins and listeners. The rest is here, one small function
for each thing, and :file:`tests/airflow/test_internals.py` has a test for each. No other module of the provider imports
Airflow's tables or SQLAlchemy. What is imported inside the functions would be paid for by each DAG file that is parsed.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


class TaskDeleted(Exception):
    """The task instance is no longer there."""


class TaskStateUnknown(Exception):
    """Airflow does not say in which state a task instance is."""


@dataclass(frozen=True)
class StoredValue:
    """A value of Airflow's task state store, with what the database says of its task instance.

    :param row: the number of its row; databases use the numbers of deleted rows again
    :param value: its JSON, or a reference where workers keep task states in a backend of their own
    :param dag_run: number and name of the run
    :param ti_id: the id of the task instance, ``None`` if it is no longer there
    """

    row: int
    value: str
    dag_run: tuple[int, str]
    dag_id: str
    task_id: str
    map_index: int
    ti_id: object | None
    state: str | None
    max_tries: int | None


# --- what a worker or a triggerer's child may ask ---------------------------------------------------


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


async def get_xcom(ti: Any, key: str) -> Any:
    """Ask Airflow for an XCom of a task instance, in a trigger; ``None`` if there is none.

    It stands on ``XCom.aget_one`` of the Task SDK's execution time, which ``airflow.sdk`` does not export.

    :param ti: the task instance of a trigger
    :raises TaskStateUnknown: Airflow does not answer
    """
    from airflow.sdk.execution_time.xcom import XCom

    try:
        return await XCom.aget_one(
            key=key, dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index
        )
    except Exception as error:
        raise TaskStateUnknown(str(error)) from error


async def push_xcom(ti: Any, key: str, value: Any) -> None:
    """Store an XCom of a task instance, in a trigger.

    It stands on ``XCom.aset`` of the Task SDK's execution time, which ``airflow.sdk`` does not export.

    :param ti: the task instance of a trigger
    :param key: the XCom's key
    :param value: its value, of a JSON type
    """
    from airflow.sdk.execution_time.xcom import XCom

    await XCom.aset(
        key=key, value=value, dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index
    )


# --- what Airflow's components may read and write in the database -----------------------------------


def read_stored_values(key: str) -> list[StoredValue]:
    """Read the values of all tasks under a key of the task state store, with their task instances.

    It stands on the tables of ``TaskStateStoreModel`` and ``TaskInstance``, and on ``create_session``.

    :param key: the key that the tasks have used
    """
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import and_, select

    of_task = and_(
        TaskInstance.dag_id == Stored.dag_id,
        TaskInstance.run_id == Stored.run_id,
        TaskInstance.task_id == Stored.task_id,
        TaskInstance.map_index == Stored.map_index,
    )
    query = (
        select(Stored, TaskInstance.id, TaskInstance.state, TaskInstance.max_tries)
        .outerjoin(TaskInstance, of_task)
        .where(Stored.key == key)
    )
    with create_session() as session:
        return [
            StoredValue(
                row=stored.id,
                value=stored.value,
                dag_run=(stored.dag_run_id, stored.run_id),
                dag_id=stored.dag_id,
                task_id=stored.task_id,
                map_index=stored.map_index,
                ti_id=ti_id,
                state=state,
                max_tries=max_tries,
            )
            for stored, ti_id, state, max_tries in session.execute(query)
        ]


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

    state = select(TaskInstance.state).where(TaskInstance.id == task.ti_id).with_for_update()
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


def delete_stored_value(stored: StoredValue) -> None:
    """Delete a value from the task state store, unless its row holds another one by now.

    It stands on the table of ``TaskStateStoreModel``, and on ``create_session``.

    :param stored: the value as it was read
    """
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(Stored).where(Stored.id == stored.row, Stored.value == stored.value))


def existing_dag_runs(dag_runs: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    """Return those of some runs that are still there.

    It stands on the table of ``DagRun``, and on ``create_session``.

    :param dag_runs: number and name of each run; databases use the numbers of deleted runs again
    """
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    asked = set(dag_runs)
    query = select(DagRun.id, DagRun.run_id).where(DagRun.id.in_([number for number, _ in asked]))
    with create_session() as session:
        return asked & {(number, name) for number, name in session.execute(query)}


# --- which process this is --------------------------------------------------------------------------


def is_component(starting: object) -> bool:
    """Tell whether what a listener gets is one of Airflow's components, which may read the database.

    It stands on ``airflow.jobs.job.Job``: the listeners of scheduler, triggerer and DAG processor get one, those of a
    task get something else. The module is looked for and not imported, since a task must not import it.

    :param starting: what ``on_starting`` was called with
    """
    jobs = sys.modules.get("airflow.jobs.job")
    return jobs is not None and isinstance(starting, jobs.Job)


def is_triggerer(component: object) -> bool:
    """Tell whether a component is a triggerer.

    It stands on ``Job.job_type``, which Airflow sets only after it has called ``on_starting``.

    :param component: what :func:`is_component` approved of
    """
    return getattr(component, "job_type", None) == "TriggererJob"


def may_be_triggerer() -> bool:
    """Tell whether this process can become a triggerer, which is known before :func:`is_triggerer` is.

    It stands on the module ``airflow.jobs.triggerer_job_runner``: neither scheduler nor DAG processor import it.
    """
    return "airflow.jobs.triggerer_job_runner" in sys.modules


# --- rendering --------------------------------------------------------------------------------------


class BeforeRendering:
    """Lets an operator change its fields before Airflow renders them, also those of a mapped task.

    It stands on ``_do_render_template_fields``, which Airflow calls for every task that runs. The public
    ``render_template_fields`` is not called for the operator that a mapped task is expanded to.
    """

    @abstractmethod
    def before_rendering(self, jinja_env: Any) -> None:
        """Change fields.

        :param jinja_env: Jinja's environment that they are going to be rendered with
        """

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Any, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        self.before_rendering(jinja_env)
        super()._do_render_template_fields(  # type: ignore[misc]  # of the operator that it is mixed into
            parent, template_fields, context, jinja_env, seen_oids
        )
