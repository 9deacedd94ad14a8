"""Airflow connections of the type ``firecrest``, in every form that Airflow stores them in."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote, urlencode

import pytest
from airflow.sdk import Connection as Stored
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.hooks import connection as stored_connection
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from firecrest_core.connection import Connection
from firecrest_core.errors import ConfigurationError
from firecrest_local import LocalFirecREST

TOKEN_URL = "https://auth.example.org/realms/Site/token"


def stored(**fields: object) -> Stored:
    extra = {"token_url": TOKEN_URL, **fields.pop("extra", {})}  # type: ignore[dict-item]
    given = {"host": "https://api.example.org/hpc/v2", "login": "me", "password": "s3cret"} | fields
    return Stored(conn_id="here", conn_type="firecrest", extra=json.dumps(extra), **given)  # type: ignore[arg-type]


def parse(connection: Stored) -> Connection:
    return stored_connection.parse(connection, connection.extra_dejson)


def test_fields() -> None:
    extra = {"system": "daint", "scopes": "a b", "verify": "/etc/ca.pem", "timeout": 5, "max_in_flight": 2}
    assert parse(stored(extra=extra)) == Connection(
        url="https://api.example.org/hpc/v2",
        token_url=TOKEN_URL,
        client_id="me",
        client_secret="s3cret",
        scopes=("a", "b"),
        system="daint",
        verify="/etc/ca.pem",
        timeout=5.0,
        max_in_flight=2,
    )


def test_what_is_left_out_has_the_cores_defaults() -> None:
    assert parse(stored()) == Connection(
        url="https://api.example.org/hpc/v2", token_url=TOKEN_URL, client_id="me", client_secret="s3cret"
    )


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "api.example.org"}, "https://api.example.org"),
        ({"host": "api.example.org", "schema": "hpc/v2"}, "https://api.example.org/hpc/v2"),
        ({"host": "http://localhost", "port": 8000}, "http://localhost:8000"),
        ({"host": "http://localhost:8000/", "schema": "v2/"}, "http://localhost:8000/v2"),
    ],
)
def test_url(fields: dict, url: str) -> None:
    assert parse(stored(**fields)).url == url


@pytest.mark.parametrize(
    ("given", "read"),
    [(None, True), ("", True), (True, True), (False, False), ("false", False), ("True", True), ("/ca", "/ca")],
)
def test_verify(given: object, read: object) -> None:
    assert parse(stored(extra={"verify": given})).verify == read


@pytest.mark.parametrize("given", [True, "true", "1"])
def test_allow_http(given: object) -> None:
    assert parse(stored(host="http://api.example.org", extra={"allow_http": given})).allow_http is True


@pytest.mark.parametrize("scopes", ["a b", "a,b", ["a", "b"]])
def test_scopes(scopes: object) -> None:
    assert parse(stored(extra={"scopes": scopes})).scopes == ("a", "b")


def test_uri_survives_airflows_own_round_trip() -> None:
    first = stored(extra={"system": "daint", "timeout": "7"})
    assert parse(Stored(conn_id="here", uri=first.get_uri())) == parse(first)


def test_uri_as_a_user_writes_it(store: Callable[..., None]) -> None:
    extra = urlencode({"token_url": TOKEN_URL, "system": "daint", "verify": "false", "max_in_flight": "3"})
    store(f"firecrest://me:{quote('s/3:cret', safe='')}@api.example.org:8443/hpc/v2?{extra}")
    connection = FirecRESTHook().connection()
    assert connection.url == "https://api.example.org:8443/hpc/v2"
    assert connection.secret.get_secret_value() == "s/3:cret"
    assert (connection.token_url, connection.system, connection.verify, connection.max_in_flight) == (
        TOKEN_URL,
        "daint",
        False,
        3,
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"host": ""}, "host is empty"),
        ({"login": ""}, "client_id is empty"),
        ({"password": None}, "client_secret is empty"),
        ({"extra": {"token_url": ""}}, "token_url is ''"),
        ({"extra": {"timeout": "soon"}}, "timeout is 'soon'"),
        ({"extra": {"max_in_flight": 0}}, "max_in_flight is 0"),
        ({"extra": {"system": "../ops/rm?path=/x"}}, "system: '../ops/rm?path=/x' is not the name of a system"),
        ({"extra": {"allow_http": "perhaps"}}, "allow_http is 'perhaps'"),
        ({"host": "http://api.example.org"}, "url is plain http to api.example.org:"),
        ({"extra": {"token_url": "http://auth.example.org"}}, "token_url is plain http to auth.example.org"),
        ({"host": "https://me:s3cret@api.example.org"}, "host holds a user name or a password"),
        ({"host": "https://api.example.org?x=s3cret"}, "host holds a query"),
        ({"schema": "v2?x=s3cret"}, "url holds a query"),
        ({"host": "https://api.example.org:s3", "port": 80}, "host is 'https://api.example.org:s3'"),
    ],
)
def test_what_is_wrong_is_named(fields: dict, said: str) -> None:
    with pytest.raises(ConfigurationError, match="'here'") as caught:
        parse(stored(**fields))
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_missing_connection_fails_at_once() -> None:
    with pytest.raises(AirflowFailException, match="no connection 'nowhere'"):
        FirecRESTHook("nowhere").list_systems()


def test_connection_says_which_systems_answer_and_as_whom(connected: LocalFirecREST) -> None:
    answer, message = FirecRESTHook().test_connection()
    assert answer
    assert message == f"{connected.url}: {connected.system} answers as {connected.user!r}"


def test_connection_says_what_is_wrong(connected: LocalFirecREST, store: Callable[..., None], stored: dict) -> None:
    store(stored | {"password": "wrong-secret"})
    answer, message = FirecRESTHook().test_connection()
    assert not answer
    assert "refused" in message
    assert "wrong-secret" not in message


def test_airflows_own_test_of_a_connection_that_is_not_stored(f7t: LocalFirecREST, stored: dict, mocker) -> None:
    mocker.patch.object(Stored, "get_hook", lambda self: FirecRESTHook(self.conn_id))
    fields = stored | {"extra": json.dumps(stored["extra"])}
    assert Stored(conn_id="only_here", **fields).test_connection()[0] is True
