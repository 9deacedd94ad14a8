"""XComs of a task instance, and which objects of ours Airflow reads from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from airflow_provider_firecrest.airflow_internals.state_store import StoredValue
from airflow_provider_firecrest.airflow_internals.task_states import TaskStateUnknown


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


def read_xcom(ti: Any, key: str) -> Any:
    """Ask Airflow for an XCom of a task instance, in its worker; ``None`` if there is none.

    It stands on ``XCom.get_value`` of the Task SDK's execution time, which ``airflow.sdk`` does not export.

    :param ti: the task instance
    :param key: the XCom's key
    """
    from airflow.sdk.execution_time.xcom import XCom

    return XCom.get_value(ti_key=ti, key=key)


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


def change_xcoms(
    tasks: Iterable[StoredValue], key: str, change: Callable[[StoredValue, dict[str, Any]], dict[str, Any] | None]
) -> None:
    """Change XComs of tasks in the database.

    It stands on the table of ``XComModel``, whose values are JSON or a text of JSON, and on ``create_session``.

    :param tasks: any value of each task
    :param key: the key of the XComs; keys that begin with it and a dot count, too
    :param change: returns the new mapping for the task and the old one; ``None`` to leave it as it is
    """
    from airflow.models.xcom import XComModel as XCom
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    with create_session() as session:
        for task in tasks:
            query = select(XCom).where(
                XCom.dag_run_id == task.dag_run[0],
                XCom.task_id == task.task_id,
                XCom.map_index == task.map_index,
                (XCom.key == key) | XCom.key.startswith(f"{key}.", autoescape=True),
            )
            for found in session.scalars(query.with_for_update()):
                old = _parsed(found.value)
                new = change(task, old) if isinstance(old, dict) else None
                if new is not None:
                    found.value = json.dumps(new) if isinstance(found.value, str) else new
                    found.timestamp = func.now()


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None


def allow_in_xcoms(names: Iterable[str]) -> None:
    """Let this process read objects of these classes from XComs, as ``[core] allowed_deserialization_classes`` does.

    It stands on ``airflow.sdk.serde``, whose ``allow_class`` would import the modules of the classes.

    :param names: the classes, with their modules
    """
    from airflow.sdk import serde

    serde._extra_allowed.update(names)
