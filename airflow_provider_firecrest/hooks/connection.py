"""An Airflow connection of type ``firecrest``, as the core's :class:`~firecrest_core.connection.Connection`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_provider_firecrest import airflow_internals
from firecrest_core.connection import Connection, read_switch
from firecrest_core.errors import ConfigurationError
from firecrest_core.urls import check_url

if TYPE_CHECKING:
    from airflow.sdk import Connection as AirflowConnection


def load(conn_id: str, team: str | None = None) -> Connection:
    """Read the connection that Airflow has stored, and mask its secret in the log.

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
    connection = parse(stored, stored.extra_dejson)
    mask_secret(connection.secret.get_secret_value())
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
    connection = parse(stored, await stored.aextra_dejson())
    await amask_secret(connection.secret.get_secret_value())
    return connection


def _missing(conn_id: str, team: str | None = None) -> ConfigurationError:
    reader = "it" if team is None else f"the team {team!r}"
    return ConfigurationError(
        f"Airflow finds no connection {conn_id!r} that {reader} can read: create one of the type 'firecrest', or name "
        "another with firecrest_conn_id."
    )


def parse(stored: AirflowConnection, extra: dict[str, Any]) -> Connection:
    """Read a connection that was stored as fields, as JSON or as a URI.

    Its host is the API's URL; without a scheme, ``https`` is meant. A port or a path is put back into the URL: Airflow
    takes URIs apart. Login and password are the OAuth2 client's. The extra holds ``token_url``, ``system``, ``scopes``,
    ``verify``, ``allow_http``, ``timeout`` and ``max_in_flight``; numbers and booleans may be given as text.

    :param stored: the connection
    :param extra: its extra as a mapping; Airflow reads it in two ways, one of them for event loops
    :raises ConfigurationError: naming the connection and the field that is wrong
    """
    try:
        return Connection(
            url=_url(stored),
            token_url=extra.get("token_url") or "",
            client_id=stored.login or "",
            client_secret=stored.password or "",
            scopes=_scopes(extra.get("scopes")),
            system=extra.get("system") or None,
            verify=_verify(extra.get("verify")),
            allow_http=read_switch("allow_http", extra.get("allow_http")),
            timeout=_number("timeout", extra.get("timeout"), 30.0),
            max_in_flight=int(_number("max_in_flight", extra.get("max_in_flight"), 4)),
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"Airflow connection {stored.conn_id!r}: {error}") from None


def _url(stored: AirflowConnection) -> str:
    host = (stored.host or "").rstrip("/")
    if not host:
        raise ConfigurationError("its host is empty: give the URL of the FirecREST API")
    if "://" not in host:
        host = f"https://{host}"
    check_url("host", host)
    if stored.port and urlsplit(host).port is None:
        host = f"{host}:{stored.port}"
    if stored.schema:
        host = f"{host}/{stored.schema.strip('/')}"
    return host


def _scopes(value: Any) -> tuple[str, ...]:
    if not value:
        return ()
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    return tuple(value)


def _verify(value: Any) -> bool | str:
    if value is None or value == "":
        return True
    if isinstance(value, str):
        # A URI has no booleans, and the form's field is a text.
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
    return bool(value)


def _number(field: str, value: Any, default: float) -> float:
    if value is None or value == "":
        return default
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{field} is {value!r}: give a number") from None
