"""All that this provider uses of Airflow without Airflow's promise to keep it.

Airflow promises its Task SDK, and the bases of triggers, plugins and listeners. The rest is here, one small function
for each thing, and :file:`tests/airflow/test_internals.py` has a test for each. No other module of the provider imports
Airflow's tables or SQLAlchemy. What is imported inside the functions would be paid for by each DAG file that is parsed.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any


class TaskDeleted(Exception):
    """The task instance is no longer there."""


class TaskStateUnknown(Exception):
    """Airflow does not say in which state a task instance is."""


LONGEST_VALUE = 256 * 1024
"""Characters of a stored value that are read. A record takes a few hundred."""

# Values in one query: databases limit the variables of a statement.
_CHUNK = 500


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
        queries = [query.where(Stored.id.in_(some)) for some in _chunks(rows)]
    if dag_runs is not None:
        queries = [query.where(Stored.dag_run_id.in_(some)) for some in _chunks(dag_runs)]
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


def _chunks(numbers: Collection[int]) -> Iterator[list[int]]:
    ordered = sorted(numbers)
    for at in range(0, len(ordered), _CHUNK):
        yield ordered[at : at + _CHUNK]


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
            for some in _chunks({number for number, _ in asked})
            for number, name in session.execute(query.where(DagRun.id.in_(some)))
        } & asked


def is_reference(value: Any) -> bool:
    """Tell whether a stored value says only where a worker's own state store backend keeps it.

    It stands on the form that ``TaskStateStoreAccessor.set`` gives to such a reference.

    :param value: the value, as parsed JSON
    """
    return isinstance(value, dict) and set(value) == {"__airflow_state_ref__"}


# --- teams --------------------------------------------------------------------------------------------


def teams_of(dag_ids: Iterable[str]) -> dict[str, str]:
    """Return the teams that DAGs belong to, without those that belong to none.

    It stands on the option ``[core] multi_team``, and on ``DagModel.get_dag_id_to_team_name_mapping``.

    :param dag_ids: the DAGs
    """
    from airflow.sdk import conf

    if not conf.getboolean("core", "multi_team", fallback=False):
        return {}
    from airflow.models.dag import DagModel

    teams = DagModel.get_dag_id_to_team_name_mapping(list(dag_ids))
    return {dag_id: team for dag_id, team in teams.items() if team is not None}


def get_connection_of_team(conn_id: str, team: str) -> Any:
    """Read a connection as a task of a team does, in a component that may read the database.

    It stands on ``airflow.models.Connection.get_connection_from_secrets``, which takes the team; ``BaseHook`` leaves
    that to the supervisor of a task.

    :param conn_id: the connection
    :param team: the team
    :raises AirflowNotFoundException: the team cannot read such a connection
    """
    from airflow.models.connection import Connection

    return Connection.get_connection_from_secrets(conn_id, team_name=team)


def give_connections_a_port(conn_type: str) -> None:
    """Let Airflow's Test button work for connections without a port, in the API server.

    The button sends port 0 where none is stored, and the API server then refuses to test the stored secret with another
    port than the stored one. So what it reads from the database gets port 0, which stays out of the database.

    It stands on the table of ``airflow.models.Connection``, and on SQLAlchemy's event of a row that was read.

    :param conn_type: the type of the connections
    """
    from airflow.models.connection import Connection
    from sqlalchemy import event
    from sqlalchemy.orm.attributes import set_committed_value

    def fill_in(stored: Connection, _context: object) -> None:
        read = stored.__dict__  # a query may leave columns out
        if read.get("conn_type") == conn_type and read.get("port", 0) is None:
            set_committed_value(stored, "port", 0)

    event.listen(Connection, "load", fill_in)


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


def is_api_server() -> bool:
    """Tell whether this process is the API server.

    It stands on the module ``airflow.api_fastapi.main``, which each way to start the API server imports, and nothing
    else. ``dag.test()`` and a task import other parts of it.
    """
    return "airflow.api_fastapi.main" in sys.modules


# --- the task that a worker executes ------------------------------------------------------------------


def attach(task: Any, *, on_kill: Callable[[], None], on_success: Callable[[], None]) -> None:
    """Have functions called beside the methods of an operator whose ``execute`` runs in this process.

    It stands on ``task.on_kill`` and ``task.post_execute``, which the task runner looks up on the very operator that it
    executes: the first at SIGTERM and at ``AirflowTaskTimeout``, the second when ``execute`` has returned.

    :param task: the operator; what was attached to it before is replaced
    :param on_kill: called before the operator's own ``on_kill``
    :param on_success: called before the operator's own ``post_execute``
    """

    def kill() -> None:
        on_kill()
        type(task).on_kill(task)

    def post_execute(context: Any, result: Any = None) -> Any:
        on_success()
        return type(task).post_execute(task, context, result)

    task.on_kill, task.post_execute = kill, post_execute


# --- XComs --------------------------------------------------------------------------------------------


def allow_in_xcoms(names: Iterable[str]) -> None:
    """Let this process read objects of these classes from XComs, as ``[core] allowed_deserialization_classes`` does.

    It stands on ``airflow.sdk.serde``, whose ``allow_class`` would import the modules of the classes.

    :param names: the classes, with their modules
    """
    from airflow.sdk import serde

    serde._extra_allowed.update(names)


# --- rendering --------------------------------------------------------------------------------------


def syntax_error(text: str, jinja_env: Any) -> tuple[int, str] | None:
    """Return why Jinja cannot read a template: the number of the line, and its message; ``None`` if it can.

    It stands on Jinja being what renders templates.

    :param text: the template
    :param jinja_env: Jinja's environment that it is going to be rendered with
    """
    from jinja2 import TemplateSyntaxError

    try:
        jinja_env.parse(text)
    except TemplateSyntaxError as error:
        return error.lineno, str(error.message)
    return None


class BeforeRendering:
    """Lets an operator change its fields before Airflow renders them, and act on them afterwards, also if it is mapped.

    It stands on ``_do_render_template_fields``, which Airflow calls for every task that runs. The public
    ``render_template_fields`` is not called for the operator that a mapped task is expanded to.
    """

    @abstractmethod
    def before_rendering(self, jinja_env: Any) -> None:
        """Change fields.

        :param jinja_env: Jinja's environment that they are going to be rendered with
        """

    def rendering_error(self, field: str, error: Exception) -> Exception:
        """Return the error to raise when a field cannot be rendered.

        :param field: the field
        :param error: Jinja's
        """
        return error

    def after_rendering(self, context: Any) -> None:
        """Act on the rendered fields. Nothing is done unless an operator says what.

        :param context: the task's; the label of a mapped task is rendered by its ``map_index_template`` after this
        """

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Any, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        from jinja2 import TemplateError

        self.before_rendering(jinja_env)
        for field in template_fields:
            try:
                super()._do_render_template_fields(  # type: ignore[misc]  # of the operator that it is mixed into
                    parent, (field,), context, jinja_env, seen_oids
                )
            except TemplateError as error:
                raise self.rendering_error(field, error) from None
        self.after_rendering(context)
