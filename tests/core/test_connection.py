from __future__ import annotations

import pytest

from firecrest_core import Connection
from firecrest_core.errors import ConfigurationError

GOOD = {
    "FIRECREST_URL": "https://api.example.org/v2/",
    "AUTH_TOKEN_URL": "https://auth.example.org/token",
    "FIRECREST_CLIENT_ID": "me",
    "FIRECREST_CLIENT_SECRET": "very-secret",
}


def test_from_environment() -> None:
    connection = Connection.from_environment(GOOD | {"FIRECREST_SYSTEM": "daint"})
    assert connection.url == "https://api.example.org/v2"
    assert connection.system_or_default(None) == "daint"
    assert connection.system_or_default("eiger") == "eiger"


def test_the_secret_is_not_shown() -> None:
    assert "very-secret" not in repr(Connection.from_environment(GOOD))


@pytest.mark.parametrize("name", GOOD)
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Connection.from_environment({key: value for key, value in GOOD.items() if key != name})


def test_no_system() -> None:
    with pytest.raises(ConfigurationError, match="system"):
        Connection.from_environment(GOOD).system_or_default(None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "api.example.org"},
        {"url": "ftp://api.example.org"},
        {"token_url": ""},
        {"client_id": ""},
        {"client_secret": ""},
        {"timeout": 0},
        {"max_in_flight": 0},
    ],
)
def test_what_cannot_be_right_is_named(wrong: dict[str, object]) -> None:
    fields = {
        "url": "https://api.example.org",
        "token_url": "https://auth.example.org/token",
        "client_id": "me",
        "client_secret": "s",
    }
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Connection(**(fields | wrong))  # type: ignore[arg-type]
