"""What the page *HPC Jobs* stands on and Airflow does not promise: contract tests of ``airflow_internals``."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import MarkRefused
from airflow_provider_firecrest.plugins.firecrest import FirecRESTPlugin


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Airflow's API was asked; ``status`` is what it answers."""
    app, asked = FastAPI(), {"status": 200}

    @app.patch("/{path:path}")
    async def patch(path: str, request: Request) -> JSONResponse:
        asked.update(path=path, body=await request.json(), headers=dict(request.headers))
        return JSONResponse({}, asked["status"])

    monkeypatch.setitem(sys.modules, "airflow.api_fastapi.main", SimpleNamespace(app=app))
    return asked


async def test_a_task_is_marked_in_the_viewers_name(asked) -> None:
    who = {"cookie": "_token=abc", "authorization": "Bearer def", "host": "x", "content-length": "7"}
    await airflow_internals.mark_failed(who, "dag", "manual__2026-01-01T00:00:00+00:00", "group.job", 3)
    assert asked["path"] == "api/v2/dags/dag/dagRuns/manual__2026-01-01T00:00:00+00:00/taskInstances/group.job/3"
    assert asked["body"] == {"new_state": "failed"}
    assert (asked["headers"]["cookie"], asked["headers"]["authorization"]) == ("_token=abc", "Bearer def")
    asked["status"] = 403
    with pytest.raises(MarkRefused, match="403"):
        await airflow_internals.mark_failed(who, "dag", "run", "job", -1)


def test_airflow_has_the_route_that_marks_a_task() -> None:
    from airflow.api_fastapi.core_api.datamodels.task_instances import PatchTaskInstanceBody
    from airflow.api_fastapi.core_api.routes.public import public_router

    path = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/{map_index}"
    app = FastAPI()
    app.include_router(public_router)
    assert "patch" in app.openapi()["paths"][f"/api/v2{path}"]
    assert PatchTaskInstanceBody.model_validate({"new_state": "failed"}).new_state == "failed"
    main = Path(importlib.util.find_spec("airflow.api_fastapi.main").origin).read_text()
    assert "\napp = cached_app(" in main


def test_the_signing_key_is_that_of_all_api_servers(monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__SECRET_KEY", "the key of this Airflow")
    assert airflow_internals.signing_key() == "the key of this Airflow"


def test_airflow_takes_the_views_of_the_plugin() -> None:
    from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse

    views = [ExternalViewResponse.model_validate(view) for view in FirecRESTPlugin.external_views]
    assert [view.destination for view in views] == ["nav", "dag", "dag_run", "task", "task_instance"]
    assert len({view.url_route for view in views}) == 5


PLUGIN = """
import sys
import airflow.api_fastapi.app
import fastapi
from airflow_provider_firecrest.plugins import firecrest
before = set(sys.modules)
sys.modules["airflow.api_fastapi.main"] = None
firecrest.airflow_internals.give_connections_a_port = lambda conn_type: None
firecrest.FirecRESTPlugin.on_load()
assert [one["url_prefix"] for one in firecrest.FirecRESTPlugin.fastapi_apps] == ["/firecrest"]
print(sorted(set(sys.modules) - before))
"""


def test_the_start_of_the_api_server_does_not_wait_for_the_app() -> None:
    done = subprocess.run([sys.executable, "-c", PLUGIN], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "['airflow.api_fastapi.main']"


def test_other_processes_than_the_api_server_mount_nothing(monkeypatch) -> None:
    monkeypatch.setattr(FirecRESTPlugin, "fastapi_apps", [])  # a test before may have stood for an API server
    assert not airflow_internals.is_api_server()
    FirecRESTPlugin.on_load()
    assert FirecRESTPlugin.fastapi_apps == []
