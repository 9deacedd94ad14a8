"""An Airflow connection of type ``firecrest``, as the core's :class:`Connection`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from firecrest_core.connection import Connection
from firecrest_core.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Connection as AirflowConnection


def read(stored: AirflowConnection, extra: dict[str, Any]) -> Connection:
    """Read a connection that was stored as fields, as JSON or as a URI.

    Host: the API's URL; without a scheme ``https`` is meant, and a port or a path that Airflow took apart (it
    does with URIs) is put back. Login and password: the OAuth2 client. Extra: ``token_url``, ``system``,
    ``scopes``, ``verify``, ``timeout``, ``max_in_flight``, numbers and booleans also as text.

    :param extra: the extra as a mapping; Airflow reads it in two ways, one of them for event loops
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
