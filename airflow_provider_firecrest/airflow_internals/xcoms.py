"""XComs of a task instance, and which objects of ours Airflow reads from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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


def allow_in_xcoms(names: Iterable[str]) -> None:
    """Let this process read objects of these classes from XComs, as ``[core] allowed_deserialization_classes`` does.

    It stands on ``airflow.sdk.serde``, whose ``allow_class`` would import the modules of the classes.

    :param names: the classes, with their modules
    """
    from airflow.sdk import serde

    serde._extra_allowed.update(names)
