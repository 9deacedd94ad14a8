"""The teams that DAGs belong to, and the connections that components read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


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
