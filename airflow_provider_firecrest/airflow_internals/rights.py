"""What a user of Airflow's UI may see and do, as the auth manager says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from airflow_provider_firecrest.airflow_internals.connections import teams_of


def readable_dags(user: Any, dag_ids: Iterable[str]) -> frozenset[str]:
    """Return those of some DAGs whose task instances a user may read.

    It asks what Airflow asks before it lists the task instances of all DAGs, and stands on ``get_auth_manager``,
    ``is_authorized_dag`` and ``filter_authorized_dag_ids``.

    :param user: the user, as ``get_user`` of Airflow's API gives it
    :param dag_ids: the DAGs
    """
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails

    asked = set(dag_ids)
    manager = get_auth_manager()
    if not asked or not manager.is_authorized_dag(
        method="GET", access_entity=DagAccessEntity.TASK_INSTANCE, details=DagDetails(), user=user
    ):
        return frozenset()
    teams = teams_of(asked)
    of_team: dict[str | None, set[str]] = defaultdict(set)
    for dag_id in asked:
        of_team[teams.get(dag_id)].add(dag_id)
    return frozenset().union(
        *(
            manager.filter_authorized_dag_ids(dag_ids=some, user=user, method="GET", team_name=team)
            for team, some in of_team.items()
        )
    )


def may_read_output(user: Any, dag_id: str) -> bool:
    """Tell whether a user may read the logs of a DAG's tasks, to which the output of their jobs belongs.

    It stands on what :func:`readable_dags` does.

    :param user: the user
    :param dag_id: the DAG
    """
    return _may(user, dag_id, "GET", "TASK_LOGS")


def may_read_script(user: Any, dag_id: str) -> bool:
    """Tell whether a user may read the task instances of a DAG, to whose rendered fields the script of a job belongs.

    It stands on what :func:`readable_dags` does.

    :param user: the user
    :param dag_id: the DAG
    """
    return _may(user, dag_id, "GET", "TASK_INSTANCE")


def may_cancel(user: Any, dag_id: str) -> bool:
    """Tell whether a user may mark the task instances of a DAG, which cancels their jobs.

    It stands on what :func:`readable_dags` does.

    :param user: the user
    :param dag_id: the DAG
    """
    return _may(user, dag_id, "PUT", "TASK_INSTANCE")


def _may(user: Any, dag_id: str, method: str, entity: str) -> bool:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails

    manager: Any = get_auth_manager()
    details = DagDetails(id=dag_id, team_name=teams_of([dag_id]).get(dag_id))
    return bool(
        manager.is_authorized_dag(method=method, access_entity=DagAccessEntity[entity], details=details, user=user)
    )
