"""The Test button of Airflow's list of connections, by the requests that it sends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_firecrest.get_provider_info import get_provider_info
from harness.airflow.stack import AirflowStack


@pytest.fixture
def saved(stack: AirflowStack) -> Iterator[Callable[..., dict[str, Any]]]:
    """Save a connection as the form does, and return what the list of connections shows of it."""
    path = "/connections/by_form"

    def save(**changed: Any) -> dict[str, Any]:
        (form,) = get_provider_info()["connection-types"]
        fields = stack.firecrest.connection() | changed
        extra = {name: field["schema"].get("default") for name, field in form["conn-fields"].items()}
        stack.api.create_connection("by_form", fields | {"extra": extra | fields["extra"]})
        shown: dict[str, Any] = stack.api.request("GET", path)
        return shown

    yield save
    stack.api.request("DELETE", path)


def press_test(stack: AirflowStack, shown: dict[str, Any]) -> dict[str, Any]:
    """Send what the button sends: what the list shows, with 0 for a port that is null."""
    texts = {name: shown[name] or "" for name in ("description", "host", "login", "password", "extra", "schema")}
    names = {name: shown[name] for name in ("connection_id", "conn_type")}
    answer: dict[str, Any] = stack.api.request(
        "POST", "/connections/test", json=texts | names | {"port": int(shown["port"] or 0)}
    )
    return answer


def test_a_right_connection_is_green(stack: AirflowStack, saved: Callable[..., dict[str, Any]]) -> None:
    shown = saved()
    assert json.loads(shown["extra"])["auth_url"] == stack.firecrest.variables["AUTH_TOKEN_URL"]
    answer = press_test(stack, shown)
    assert answer["status"] is True, answer
    assert " answers as " in answer["message"]


def test_a_wrong_secret_is_red_and_not_shown(stack: AirflowStack, saved: Callable[..., dict[str, Any]]) -> None:
    answer = press_test(stack, saved(password="not-the-secret"))
    assert answer["status"] is False
    assert "refused" in answer["message"]
    assert "not-the-secret" not in answer["message"]


def test_nobody_makes_the_api_server_run_a_command(stack: AirflowStack, saved: Callable[..., dict[str, Any]]) -> None:
    given = stack.firecrest.connection()["extra"]
    answer = press_test(stack, saved(extra={**given, "auth": "command:touch here"}))  # type: ignore[dict-item]
    assert answer["status"] is False
    assert "FIRECREST_ALLOW_OWN_TOKEN" in answer["message"]
