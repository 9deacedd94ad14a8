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
        {"url": "https://[::1/v2"},
        {"url": "https://api.example.org:https"},
        {"url": "https://api.example.org/a b"},
        {"url": "https://api.example.org\\.example.com"},
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


def make(**fields: object) -> Connection:
    given = {
        "url": "https://api.example.org",
        "token_url": "https://auth.example.org/token",
        "client_id": "me",
        "client_secret": "s",
    }
    return Connection(**(given | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        "https://me:hunter2@api.example.org",
        "https://hunter2@api.example.org",
        "https://me:hunt/er2@api.example.org",
        "me:hunter2@api.example.org",
        "https://api.example.org/v2?key=hunter2",
        "https://api.example.org/v2?",
        "https://api.example.org/v2#hunter2",
        "https://api.example.org/?x=hunter2@example.org",
    ],
)
def test_a_url_is_an_address_and_nothing_else(wrong: str) -> None:
    for field in ["url"] if "?" in wrong else ["url", "token_url"]:
        with pytest.raises(ConfigurationError, match=f"^{field} holds") as caught:
            make(**{field: wrong})
        assert "hunt" not in str(caught.value)
        assert "er2" not in str(caught.value)


def test_a_token_url_may_have_a_query() -> None:
    assert make(token_url="https://auth.example.org/token?policy=x").token_url.endswith("?policy=x")
    with pytest.raises(ConfigurationError, match="^token_url is") as caught:
        make(token_url="auth.example.org/token?policy=hunter2")
    assert "hunter2" not in str(caught.value)


ON_THIS_MACHINE = [
    "http://localhost",
    "http://LOCALHOST:8000/v2",
    "http://f7t.localhost",
    "http://127.0.0.1:8000",
    "http://127.9.9.9",
    "http://[::1]:8000",
]
ELSEWHERE = [
    "http://api.example.org/v2",
    "HTTP://api.example.org",
    "http://10.0.0.1",
    "http://0.0.0.0",
    "http://[2001:db8::1]",
    "http://localhost.example.org",
    "http://notlocalhost",
    "http://127.0.0.1.example.org",
    "http://2130706433",
    "http://f7t",
]


@pytest.mark.parametrize("field", ["url", "token_url"])
@pytest.mark.parametrize("url", ELSEWHERE)
def test_plain_http_has_to_be_allowed(field: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{field} is plain http to .*allow_http"):
        make(**{field: url})
    assert make(**{field: url, "allow_http": True})


@pytest.mark.parametrize("url", ON_THIS_MACHINE)
def test_plain_http_to_this_machine(url: str) -> None:
    assert make(url=url, token_url=url)


@pytest.mark.parametrize(
    ("value", "allowed"), [("true", True), ("1", True), ("True", True), ("false", False), ("0", False), ("", False)]
)
def test_plain_http_is_allowed_by_the_environment(value: str, allowed: bool) -> None:
    connection = Connection.from_environment(GOOD | {"FIRECREST_ALLOW_HTTP": value})
    assert connection.allow_http is allowed


def test_an_odd_switch_in_the_environment() -> None:
    with pytest.raises(ConfigurationError, match="FIRECREST_ALLOW_HTTP is 'yes please'"):
        Connection.from_environment(GOOD | {"FIRECREST_ALLOW_HTTP": "yes please"})
