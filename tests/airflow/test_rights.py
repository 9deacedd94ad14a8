"""Who may see the jobs of which DAG, by Airflow's own auth manager: the contract tests of its rights."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.api_fastapi import app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

from airflow_provider_firecrest.airflow_internals import rights

VIEWER = SimpleAuthManagerUser(username="vera", role="VIEWER")
OPERATOR = SimpleAuthManagerUser(username="otto", role="USER")
NOBODY = SimpleAuthManagerUser(username="nick", role=None)


class PerDag(SimpleAuthManager):
    """Grants rights by DAG, as the auth managers of larger sites do; it notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def is_authorized_dag(self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        self.asked.append((method, access_entity and access_entity.value, details and details.id, details.team_name))
        own = details.id is None or details.id.startswith(user.username)
        return own and super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)


@pytest.fixture
def simple(monkeypatch: pytest.MonkeyPatch) -> SimpleAuthManager:
    manager = SimpleAuthManager()
    monkeypatch.setattr(app, "get_auth_manager", lambda: manager)
    return manager


@pytest.fixture
def per_dag(monkeypatch: pytest.MonkeyPatch) -> PerDag:
    manager = PerDag()
    monkeypatch.setattr(app, "get_auth_manager", lambda: manager)
    return manager


@pytest.mark.parametrize(
    ("user", "readable", "output", "cancel"),
    [(VIEWER, {"a", "b"}, True, False), (OPERATOR, {"a", "b"}, True, True), (NOBODY, set(), False, False)],
)
def test_rights_by_role(simple, user, readable, output, cancel) -> None:
    assert rights.readable_dags(user, ["a", "b"]) == readable
    assert rights.may_read_output(user, "a") is output
    assert rights.may_cancel(user, "a") is cancel
    assert rights.readable_dags(user, []) == frozenset()


def test_rights_by_dag(per_dag) -> None:
    assert rights.readable_dags(VIEWER, {"vera_relax", "otto_relax"}) == {"vera_relax"}
    assert rights.may_read_output(VIEWER, "vera_relax")
    assert not rights.may_read_output(VIEWER, "otto_relax")
    assert rights.may_cancel(OPERATOR, "otto_relax")
    assert not rights.may_cancel(OPERATOR, "vera_relax")


def test_rights_are_asked_for_the_dags_team(per_dag, monkeypatch) -> None:
    monkeypatch.setattr(rights, "teams_of", lambda dag_ids: {"vera_a": "physics"})
    physicist = SimpleAuthManagerUser(username="vera", role="VIEWER", teams=["physics"])
    assert rights.readable_dags(physicist, {"vera_a", "vera_b"}) == {"vera_a", "vera_b"}
    assert rights.readable_dags(VIEWER, {"vera_a", "vera_b"}) == {"vera_b"}
    rights.may_cancel(VIEWER, "vera_a")
    assert set(per_dag.asked) == {
        ("GET", "TASK_INSTANCE", None, None),
        ("GET", None, "vera_a", "physics"),
        ("GET", None, "vera_b", None),
        ("PUT", "TASK_INSTANCE", "vera_a", "physics"),
    }


def test_a_right_that_was_taken_away_is_gone_at_once(per_dag, monkeypatch) -> None:
    assert rights.readable_dags(VIEWER, {"vera_relax"})
    monkeypatch.setattr(per_dag, "is_authorized_dag", lambda **asked: False)
    assert not rights.readable_dags(VIEWER, {"vera_relax"})
