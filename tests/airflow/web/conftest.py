"""A browser that looks at the page *HPC Jobs*, without an Airflow deployment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.api_fastapi import app as airflow_app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi import FastAPI
from fastapi.testclient import TestClient

from airflow_provider_firecrest.web import WebApp, found_job, job_page, jobs_table
from tests.airflow.web.job_rows import Rows


class PerDag(SimpleAuthManager):
    """An auth manager that hides one DAG from everybody."""

    def is_authorized_dag(self, *, details: Any = None, **asked: Any) -> bool:
        return getattr(details, "id", None) != "theirs" and super().is_authorized_dag(details=details, **asked)


@pytest.fixture(autouse=True)
def auth(monkeypatch: pytest.MonkeyPatch, tables: Callable[[], Any]) -> PerDag:
    """Airflow's own way to know users."""
    from airflow.models.revoked_token import RevokedToken

    with tables() as session:
        RevokedToken.__table__.create(session.connection())
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "secret of the tests, long enough for HMAC with SHA-512" * 2)
    monkeypatch.setenv("AIRFLOW__API__SECRET_KEY", "another secret")
    manager = PerDag()
    monkeypatch.setattr(airflow_app._AuthManagerState, "instance", manager)
    return manager


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Rows:
    """The jobs that Airflow knows, in `rows`."""
    rows = Rows()
    for module in (jobs_table, found_job):
        monkeypatch.setattr(module, "board", lambda: rows)
    monkeypatch.setattr(job_page, "metrics_of", lambda row: None)
    return rows


@pytest.fixture
def browser(board: Rows, auth: PerDag) -> Iterator[Callable[..., TestClient]]:
    """Open a browser in which somebody is logged in, or nobody."""
    opened: list[TestClient] = []

    def browser(role: str | None = "ADMIN", name: str = "ada") -> TestClient:
        airflow = FastAPI()
        airflow.mount("/firecrest", WebApp())
        client = TestClient(airflow, follow_redirects=False).__enter__()
        opened.append(client)
        if role:
            client.cookies.set("_token", auth.generate_jwt(SimpleAuthManagerUser(username=name, role=role)))
        return client

    yield browser
    for client in opened:
        client.__exit__()
