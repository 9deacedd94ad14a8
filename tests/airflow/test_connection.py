"""Airflow connections of the type ``firecrest``, in every form that Airflow stores them in."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote, urlencode

import pytest
from airflow.sdk import Connection as Stored
from airflow.sdk._shared.secrets_masker import SecretsMasker
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.get_provider_info import get_provider_info
from airflow_provider_firecrest.hooks import connection as stored_connection
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from firecrest_core.connection import Connection
from firecrest_core.errors import ConfigurationError
from firecrest_local import LocalFirecREST

AUTH_URL = "https://auth.example.org/realms/Site/token"


def stored(**fields: object) -> Stored:
    extra = {"auth_url": AUTH_URL, **fields.pop("extra", {})}  # type: ignore[dict-item]
    given = {"host": "https://api.example.org/hpc/v2", "login": "me", "password": "s3cret"} | fields
    return Stored(conn_id="here", conn_type="firecrest", extra=json.dumps(extra), **given)  # type: ignore[arg-type]


def parse(connection: Stored) -> Connection:
    return stored_connection.parse(connection)


def test_fields() -> None:
    extra = {"system": "daint", "scopes": "a b", "verify": "/etc/ca.pem", "timeout": 5, "max_in_flight": 2}
    extra |= {"base_dir": "$SCRATCH/airflow", "paths": {"PROJECT": "/project/x"}}
    assert parse(stored(extra=extra)) == Connection(
        url="https://api.example.org/hpc/v2",
        token_url=AUTH_URL,
        client_id="me",
        client_secret="s3cret",
        scopes=("a", "b"),
        system="daint",
        verify="/etc/ca.pem",
        timeout=5.0,
        max_in_flight=2,
        base_dir="$SCRATCH/airflow",
        paths={"PROJECT": "/project/x"},
    )


def test_what_is_left_out_has_the_cores_defaults() -> None:
    assert parse(stored()) == Connection(
        url="https://api.example.org/hpc/v2", token_url=AUTH_URL, client_id="me", client_secret="s3cret"
    )


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "api.example.org"}, "https://api.example.org"),
        ({"host": "api.example.org", "schema": "hpc/v2"}, "https://api.example.org/hpc/v2"),
        ({"host": "http://localhost", "port": 8000}, "http://localhost:8000"),
        ({"host": "http://localhost:8000/", "schema": "v2/"}, "http://localhost:8000/v2"),
        ({"host": "https://api.example.org/hpc/v2", "port": 8443}, "https://api.example.org:8443/hpc/v2"),
        ({"host": "https://api.example.org/v2", "port": 0, "schema": ""}, "https://api.example.org/v2"),
        ({"host": " https://api.example.org/v2/\r\n"}, "https://api.example.org/v2"),
        ({"host": "https://[::1]/v2", "port": 8443}, "https://[::1]:8443/v2"),
        ({"host": "::1", "port": 8443, "schema": "v2"}, "https://[::1]:8443/v2"),  # Airflow's reading of a URI
        ({"host": "api.example.org", "schema": "https"}, "https://api.example.org"),
        ({"host": "localhost", "port": 8000, "schema": "http"}, "http://localhost:8000"),
        ({"host": "https://api.example.org/v2", "schema": "https"}, "https://api.example.org/v2"),
    ],
)
def test_url(fields: dict, url: str) -> None:
    assert parse(stored(**fields)).url == url


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, True),
        ("", True),
        (True, True),
        (False, False),
        ("false", False),
        ("True", True),
        ("0", False),
        (1, True),
        ("/ca", "/ca"),
        ("/ca.pem\n", "/ca.pem"),
    ],
)
def test_verify(given: object, read: object) -> None:
    assert parse(stored(extra={"verify": given})).verify == read


def test_proxy_and_client_certificate() -> None:
    extra = {"proxy": "http://me:s3cret@proxy.example.org:3128\n", "client_cert": "/etc/me.pem"}
    connection = parse(stored(extra=extra))
    assert connection.proxy_url.get_secret_value() == "http://me:s3cret@proxy.example.org:3128"
    assert connection.client_cert == "/etc/me.pem"


def test_an_api_key_needs_neither_a_client_nor_its_token_endpoint() -> None:
    connection = parse(stored(login=None, password="k3y\n", extra={"auth": "api_key", "auth_url": None}))
    assert connection.sign_in.by_api_key
    assert connection.secret.get_secret_value() == "k3y"


@pytest.mark.parametrize("auth", ["command:rm -rf s3cret", "file:/etc/s3cret", "env:s3cret"])
def test_a_token_of_your_own_is_fetched_only_where_the_deployment_allows_it(
    auth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = stored(login=None, extra={"auth": auth, "auth_url": None})
    for value in (None, "", "false"):
        if value is not None:
            monkeypatch.setenv("FIRECREST_ALLOW_OWN_TOKEN", value)
        with pytest.raises(ConfigurationError, match="FIRECREST_ALLOW_OWN_TOKEN is true") as caught:
            parse(given)
        assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("FIRECREST_ALLOW_OWN_TOKEN", "true")
    assert parse(given).auth == auth


def test_the_secret_and_the_password_of_the_proxy_are_masked(store: Callable[..., None], mocker) -> None:
    masked = mocker.patch("airflow.sdk.log.mask_secret")
    extra = {"auth_url": AUTH_URL, "proxy": "http://me:pass%20word@proxy.example.org:3128"}
    fields = {"conn_type": "firecrest", "host": "https://api.example.org", "login": "me", "password": "s3cret\n"}
    store(fields | {"extra": extra})
    connection = FirecRESTHook().connection()
    texts = [call.args[0] for call in masked.call_args_list]
    assert [secret in texts for secret in ("s3cret", "pass%20word", "pass word")] == [True, True, True]
    assert "pass" not in repr(connection)


@pytest.mark.parametrize("given", [True, "true", "1"])
def test_allow_http(given: object) -> None:
    assert parse(stored(host="http://api.example.org", extra={"allow_http": given})).allow_http is True


@pytest.mark.parametrize("scopes", ["a b", "a,b", ["a", "b"]])
def test_scopes(scopes: object) -> None:
    assert parse(stored(extra={"scopes": scopes})).scopes == ("a", "b")


def test_the_token_endpoint_has_a_second_name() -> None:
    assert parse(stored(extra={"auth_url": None, "token_url": AUTH_URL})).token_url == AUTH_URL
    assert parse(stored(extra={"token_url": AUTH_URL})).token_url == AUTH_URL


def test_blanks_and_line_breaks_around_values_are_left_out() -> None:
    extra = {"auth_url": f"{AUTH_URL}\n", "system": "daint\r\n", "timeout": "30\n"}
    assert parse(stored(login=" me\n", password="s3cret\n", extra=extra)) == parse(stored(extra={"system": "daint"}))


def test_a_number_that_airflow_has_read_in_a_uri_is_a_text() -> None:
    assert parse(stored(extra={"system": 2024})).system == "2024"


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (json.dumps(json.dumps({"auth_url": AUTH_URL})), "it was encoded twice, so encode it once"),
        (json.dumps([{"auth_url": AUTH_URL}]), "its extra is a list: give an object"),
        ("5", "its extra is a single value: give an object"),
        ("auth_url=s3cret", "its extra is no JSON: give an object"),
    ],
)
def test_an_extra_that_is_no_object(extra: str, said: str, store: Callable[..., None]) -> None:
    store({"conn_type": "firecrest", "host": "https://api.example.org", "password": "s3cret", "extra": extra})
    with pytest.raises(AirflowFailException, match="'firecrest_default'") as caught:
        FirecRESTHook().connection()
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_login_that_is_a_number_is_named_where_airflow_finds_no_connection(store: Callable[..., None]) -> None:
    store({"conn_type": "firecrest", "host": "https://api.example.org", "login": 5, "password": "s3cret"})
    with pytest.raises(AirflowFailException, match="if a host, login or password is no text"):
        FirecRESTHook().connection()


def test_uri_survives_airflows_own_round_trip() -> None:
    first = stored(extra={"system": "daint", "timeout": "7"})
    assert parse(Stored(conn_id="here", uri=first.get_uri())) == parse(first)


def test_uri_as_a_user_writes_it(store: Callable[..., None]) -> None:
    extra = urlencode({"auth_url": AUTH_URL, "system": "daint", "verify": "false", "max_in_flight": "3"})
    store(f"firecrest://me:{quote('s/3:cret', safe='')}@api.example.org:8443/hpc/v2?{extra}")
    connection = FirecRESTHook().connection()
    assert connection.url == "https://api.example.org:8443/hpc/v2"
    assert connection.secret.get_secret_value() == "s/3:cret"
    assert (connection.token_url, connection.system, connection.verify, connection.max_in_flight) == (
        AUTH_URL,
        "daint",
        False,
        3,
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"host": ""}, "host is empty"),
        ({"login": ""}, "login is empty"),
        ({"password": None}, "password is empty"),
        ({"login": "\n"}, "login is empty"),
        ({"password": " \n"}, "password is empty"),
        ({"extra": {"auth_url": ""}}, "auth_url is ''"),
        ({"extra": {"auth_url": ["https://auth.example.org"]}}, "auth_url is no text"),
        ({"extra": {"token_url": "https://other.example.org"}}, "auth_url and token_url are two names of one setting"),
        ({"extra": {"timeout": "soon"}}, "timeout is 'soon'"),
        ({"extra": {"timeout": "nan"}}, "timeout is 'nan': give a number"),
        ({"extra": {"timeout": float("inf")}}, "timeout is inf: give a number"),
        ({"extra": {"timeout": True}}, "timeout is True: give a number"),
        ({"extra": {"timeout": [30]}}, "timeout is [30]: give a number"),
        ({"extra": {"max_in_flight": 0}}, "max_in_flight is 0"),
        ({"extra": {"max_in_flight": "2.5"}}, "max_in_flight is '2.5': give a whole number"),
        ({"extra": {"max_in_flight": "nan"}}, "max_in_flight is 'nan': give a number"),
        ({"extra": {"verify": "no"}}, "verify is 'no': give true, false or the whole path of a file"),
        ({"extra": {"verify": "ca.pem"}}, "verify is 'ca.pem'"),
        ({"extra": {"verify": 2}}, "verify is 2"),
        ({"extra": {"verify": ["/ca"]}}, "verify is ['/ca']"),
        ({"extra": {"client_cert": "me.pem"}}, "client_cert is 'me.pem': give the whole path of a file"),
        ({"extra": {"proxy": "s3cret"}}, "proxy is not the URL of a proxy"),
        ({"extra": {"proxy": {"https": "s3cret"}}}, "proxy is no text"),
        ({"extra": {"auth": "s3cret"}}, "auth is none of the ways to sign in"),
        ({"extra": {"scopes": 5}}, "scopes is 5"),
        ({"extra": {"scopes": ["a", 5]}}, "scopes is ['a', 5]"),
        ({"extra": {"system": {"name": "daint"}}}, "system is no text"),
        ({"extra": {"allow_http": "yes"}}, "allow_http is 'yes': give true or false"),
        ({"extra": {"allow_htp": True}}, "its extra has 'allow_htp', which is no setting: did you mean 'allow_http'?"),
        (
            {"extra": {"colour": "s3cret"}},
            "its extra has 'colour', which is no setting: there are auth, auth_url,",
        ),
        ({"extra": {"client_secret": "s3cret"}}, "give it as the connection's field password"),
        ({"extra": {"system": "../ops/rm?path=/x"}}, "system: '../ops/rm?path=/x' is not the name of a system"),
        ({"extra": {"allow_http": "perhaps"}}, "allow_http is 'perhaps'"),
        ({"host": "http://api.example.org"}, "host is plain http to api.example.org:"),
        ({"extra": {"auth_url": "http://auth.example.org"}}, "auth_url is plain http to auth.example.org"),
        ({"host": "https://me:s3cret@api.example.org"}, "host holds a user name or a password"),
        ({"host": "https://api.example.org?x=s3cret"}, "host holds a query"),
        ({"schema": "v2?x=s3cret"}, "host holds a query"),
        ({"host": "https://api.example.org:s3", "port": 80}, "host is 'https://api.example.org:s3'"),
        ({"host": "https:/api.example.org"}, "host is 'https://https:/api.example.org': give a full URL"),
        ({"host": "https://"}, "host is 'https://https:': give a full URL"),
        ({"host": "api.example.org", "schema": "http"}, "host is plain http to api.example.org:"),
    ],
)
def test_what_is_wrong_is_named(fields: dict, said: str) -> None:
    with pytest.raises(ConfigurationError, match="'here'") as caught:
        parse(stored(**fields))
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_the_default_system_is_tested(connected, store, stored: dict) -> None:
    store(stored | {"extra": stored["extra"] | {"system": "daint"}})
    succeeded, message = FirecRESTHook().test_connection()
    assert not succeeded
    assert f"has no system 'daint'. It has {connected.system}." in message


def test_airflow_does_not_warn_of_what_the_form_stores(connected, store, stored: dict, caplog, mocker) -> None:
    """It warns of each text of one to four characters in an extra, once in each process."""
    mocker.patch.object(SecretsMasker, "_has_warned_short_secret", False)
    (form,) = get_provider_info()["connection-types"]
    extra = {name: field["schema"].get("default") for name, field in form["conn-fields"].items()}
    store(stored | {"extra": extra | {"auth_url": connected.token_url, "system": connected.system}})
    assert FirecRESTHook().list_systems()
    assert "Skipping masking" not in caplog.text
    store(stored | {"extra": stored["extra"] | {"verify": "true"}})
    assert FirecRESTHook().list_systems()
    assert "Skipping masking" in caplog.text


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
