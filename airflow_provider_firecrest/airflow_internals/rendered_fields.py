"""What Airflow keeps of the fields of a task after their templates were rendered."""

from __future__ import annotations

from typing import Any


def rendered_fields(dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, Any]:
    """Return the rendered fields of a task's newest try, without secrets; empty if Airflow does not keep them.

    It stands on the table of ``RenderedTaskInstanceFields``, in which Airflow has hidden secrets and cut long fields.

    :param dag_id: its DAG
    :param run_id: its run
    :param task_id: its id
    :param map_index: the index of a mapped task; -1 for others
    """
    from airflow.models.renderedtifields import RenderedTaskInstanceFields as Rendered
    from airflow.utils.session import create_session
    from sqlalchemy import select

    task = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
    with create_session() as session:
        found = session.scalar(select(Rendered.rendered_fields).filter_by(**task))
    return found if isinstance(found, dict) else {}
