"""Teams and their connections: contract tests of ``airflow_internals``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_provider_firecrest import airflow_internals
from tests.airflow.internals.contract import contract


@pytest.fixture
def teams(tmp_path, monkeypatch) -> None:
    """A database with a DAG and a connection of the team physics."""
    from airflow import models
    from airflow.models.connection import Connection
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.team import Team, dag_bundle_team_association_table
    from airflow.utils import session as airflow_session
    from sqlalchemy import create_engine, insert
    from sqlalchemy.orm import Session

    engine = create_engine(f"sqlite:///{tmp_path}/teams.db")
    models.import_all_models()
    tables = [model.__table__ for model in (Connection, DagModel, DagBundleModel, Team)]
    for table in (*tables, dag_bundle_team_association_table):
        table.create(engine)
    with Session(engine) as session, session.begin():
        session.execute(insert(Team).values(name="physics"))
        session.execute(insert(DagBundleModel).values(name="bundle"))
        session.execute(insert(dag_bundle_team_association_table).values(dag_bundle_name="bundle", team_name="physics"))
        row = {"is_paused": False, "bundle_name": "bundle", "max_active_tasks": 1, "max_active_runs": 1}
        row |= {"max_consecutive_failed_dag_runs": 0, "has_task_concurrency_limits": False, "fileloc": "x"}
        session.execute(insert(DagModel).values(dag_id="dag", **row))
        row = {"conn_type": "firecrest", "is_encrypted": False, "is_extra_encrypted": False}
        session.execute(insert(Connection).values(conn_id="daint", team_name="physics", **row))

    @contextmanager
    def create_session(scoped: bool = True) -> Iterator[Session]:
        with Session(engine) as session, session.begin():
            yield session

    monkeypatch.setattr(airflow_session, "create_session", create_session)
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")


def test_teams_of(teams, monkeypatch) -> None:
    with contract(
        airflow_internals.teams_of, "DagModel.get_dag_id_to_team_name_mapping gives the team of a DAG's bundle"
    ):
        assert airflow_internals.teams_of(["dag", "another"]) == {"dag": "physics"}
        monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "False")
        assert airflow_internals.teams_of(["dag"]) == {}


def test_get_connection_of_team(teams) -> None:
    with contract(
        airflow_internals.get_connection_of_team,
        "Connection.get_connection_from_secrets reads the connection of a team from the database",
    ):
        assert airflow_internals.get_connection_of_team("daint", "physics").conn_type == "firecrest"
        for conn_id, team in [("daint", "chemistry"), ("another", "physics")]:
            with pytest.raises(AirflowNotFoundException):
                airflow_internals.get_connection_of_team(conn_id, team)
