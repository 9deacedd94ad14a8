"""An Airflow connection of type ``firecrest``, as the core's :class:`~firecrest_core.connection.Connection`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv6Address
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.hooks.extra import Extra
from firecrest_core.connection import Connection, read_switch
from firecrest_core.errors import ConfigurationError
from firecrest_core.sign_in import SignInKind, parse_sign_in
from firecrest_core.urls import check_url

if TYPE_CHECKING:
    from airflow.sdk import Connection as AirflowConnection

ALLOW_OWN_TOKEN = "FIRECREST_ALLOW_OWN_TOKEN"
"""The environment variable that lets connections name commands, files and variables which give a user's own token."""

_NAMES = {"url": "host", "token_url": "auth_url", "client_id": "login", "client_secret": "password"}
"""What Airflow's users call the settings whose names begin the core's messages."""

_SOURCES = {SignInKind.COMMAND: "command", SignInKind.FILE: "file", SignInKind.ENV: "variable"}


def load(conn_id: str, team: str | None = None) -> Connection:
    """Read the connection that Airflow has stored, and mask its secrets in the log.

    :param conn_id: an Airflow connection of the type ``firecrest``
    :param team: the team that reads it, in a component that works for all teams; a task reads it as its own
    :raises ConfigurationError: there is none, or it is incomplete
    """
    from airflow.sdk.log import mask_secret

    try:
        if team is None:
            stored = BaseHook.get_connection(conn_id)
        else:
            stored = airflow_internals.get_connection_of_team(conn_id, team)
    except AirflowNotFoundException:
        raise _missing(conn_id, team) from None
    connection = parse(stored)
    for secret in _secrets(connection):
        mask_secret(secret)
    return connection


async def aload(conn_id: str) -> Connection:
    """Do what :func:`load` does, inside an event loop.

    :param conn_id: an Airflow connection of the type ``firecrest``
    :raises ConfigurationError: there is none, or it is incomplete
    """
    from airflow.sdk.log import amask_secret

    try:
        stored = await BaseHook.aget_connection(conn_id)
    except AirflowNotFoundException:
        raise _missing(conn_id) from None
    connection = parse(stored)
    for secret in _secrets(connection):
        await amask_secret(secret)
    return connection


def _secrets(connection: Connection) -> Iterator[str]:
    yield connection.secret.get_secret_value()
    proxy = connection.proxy_url
    password = proxy and urlsplit(proxy.get_secret_value()).password
    if password:
        yield from {password, unquote(password)}


def _missing(conn_id: str, team: str | None = None) -> ConfigurationError:
    reader = "it" if team is None else f"the team {team!r}"
    return ConfigurationError(
        f"Airflow finds no connection {conn_id!r} that {reader} can read: create one of the type 'firecrest', or name "
        "another with firecrest_conn_id. Airflow says this as well if a host, login or password is no text."
    )


def parse(stored: AirflowConnection) -> Connection:
    """Read a connection that was stored as fields, as JSON or as a URI.

    Its host is the API's URL; without a scheme, ``https`` is meant. A port or a path is put back into the URL: Airflow
    takes URIs apart. Login and password are the OAuth2 client's, or the password is an API key. Blanks and line breaks
    around a value, which a copied one often has, are left out.

    :param stored: the connection
    :raises ConfigurationError: naming the connection and the field that is wrong
    """
    try:
        extra = Extra(stored.extra)
        return Connection(
            url=_url(stored),
            auth=_auth(extra),
            token_url=_token_url(extra),
            client_id=(stored.login or "").strip(),
            client_secret=(stored.password or "").strip(),
            scopes=extra.words("scopes"),
            system=extra.text("system") or None,
            verify=extra.switch_or_path("verify"),
            client_cert=extra.path("client_cert"),
            proxy=extra.text("proxy") or None,
            allow_http=extra.switch("allow_http"),
            timeout=extra.number("timeout", 30.0),
            max_in_flight=extra.whole_number("max_in_flight", 4),
            base_dir=extra.text("base_dir") or None,
            paths=extra.mapping("paths"),
            job_url=extra.text("job_url"),
            presets=extra.mapping("presets"),
        )
    except ConfigurationError as error:
        name, blank, what = str(error).partition(" ")
        raise ConfigurationError(
            f"Airflow connection {stored.conn_id!r}: {_NAMES.get(name, name)}{blank}{what}"
        ) from None


def _url(stored: AirflowConnection) -> str:
    host = (stored.host or "").strip().rstrip("/")
    if not host:
        raise ConfigurationError("its host is empty: give the URL of the FirecREST API")
    path = (stored.schema or "").strip().strip("/")
    # Airflow's HTTP connections have the scheme there.
    scheme, path = (path, "") if path in ("http", "https") else ("https", path)
    if "://" not in host:
        host = f"{scheme}://{_bracketed(host)}"
    check_url("host", host)
    parts = urlsplit(host)
    if stored.port and parts.port is None:
        host = urlunsplit(parts._replace(netloc=f"{parts.netloc}:{stored.port}"))
    return f"{host}/{path}" if path else host


def _bracketed(host: str) -> str:
    """Return an IPv6 address as it stands in URLs; Airflow drops the brackets of one in a URI."""
    with suppress(ValueError):
        return f"[{IPv6Address(host)}]"
    return host


def _auth(extra: Extra) -> str:
    """Return the way to sign in, unless it would let whoever may edit connections run commands and read files here."""
    auth = extra.text("auth") or SignInKind.CLIENT_SECRET_POST
    sign_in = parse_sign_in(auth)
    own_token = not (sign_in.as_client or sign_in.by_api_key)
    if own_token and not read_switch(ALLOW_OWN_TOKEN, os.environ.get(ALLOW_OWN_TOKEN)):
        raise ConfigurationError(
            f"auth names a {_SOURCES[sign_in.kind]} of Airflow's machines, which whoever may edit connections could "
            f"misuse: it is followed only where the environment variable {ALLOW_OWN_TOKEN} is true"
        )
    return auth


def _token_url(extra: Extra) -> str:
    auth_url, token_url = extra.text("auth_url"), extra.text("token_url")
    if auth_url and token_url and auth_url != token_url:
        raise ConfigurationError("auth_url and token_url are two names of one setting, and differ: give auth_url alone")
    return auth_url or token_url
