"""Other ways to sign in than by an OAuth2 client's secret, by an Airflow connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from pytest_mock import MockerFixture

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from firecrest_local import LocalFirecREST, Settings

KEY = "a-key-that-nobody-guesses"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    """A server that takes an API key, as well as tokens."""
    with LocalFirecREST(Settings(root=tmp_path_factory.mktemp("keyed") / "cluster", api_keys=(KEY,))) as server:
        yield server


def test_an_api_key(keyed: LocalFirecREST, store: Callable[..., None]) -> None:
    store({"conn_type": "firecrest", "host": keyed.url, "password": f"{KEY}\n", "extra": {"auth": "api_key"}})
    answer, message = FirecRESTHook().test_connection()
    assert answer, message
    assert f"{keyed.system} answers as" in message


def test_a_refused_api_key_is_not_shown(keyed: LocalFirecREST, store: Callable[..., None]) -> None:
    store({"conn_type": "firecrest", "host": keyed.url, "password": "another-key", "extra": {"auth": "api_key"}})
    answer, message = FirecRESTHook().test_connection()
    assert not answer
    assert "refuses the API key" in message
    assert "another-key" not in message


def test_a_token_of_your_own_is_masked(
    keyed: LocalFirecREST,
    store: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    mocker: MockerFixture,
) -> None:
    form = {"grant_type": "client_credentials", "client_id": keyed.client_id, "client_secret": keyed.client_secret}
    token = httpx.post(keyed.token_url, data=form).raise_for_status().json()["access_token"]
    (tmp_path / "token").write_text(f"{token}\n")
    extra = {"auth": f"file:{tmp_path}/token"}
    store({"conn_type": "firecrest", "host": keyed.url, "password": "signs records", "extra": extra})
    monkeypatch.setenv("FIRECREST_ALLOW_OWN_TOKEN", "true")
    masked = mocker.patch("airflow_provider_firecrest.hooks.client.amask_secret")
    answer, message = FirecRESTHook().test_connection()
    assert answer, message
    masked.assert_called_once_with(token)
