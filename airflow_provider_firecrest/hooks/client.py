"""The core's client with an Airflow connection behind it."""

from __future__ import annotations

from functools import cache

from airflow.sdk.log import amask_secret
from pydantic import SecretStr

from airflow_provider_firecrest.hooks import connection as stored_connection
from airflow_provider_firecrest.telemetry import AirflowMetrics
from firecrest_core import telemetry
from firecrest_core.api.renewal import RenewingClient
from firecrest_core.connection import Connection

# Whoever has clients has numbers to tell.
telemetry.give_to(AirflowMetrics())


class ConnectedClient(RenewingClient):
    """A client that reads its Airflow connection again when its credentials are refused.

    :cvar stored_as: the connection's id, set by :func:`client_type`
    """

    async def load_connection(self) -> Connection:
        """Return the connection as it is stored now."""
        return await stored_connection.aload(self.stored_as)


class MaskedClient(ConnectedClient):
    """A client whose access tokens appear as ``***`` in a task's log.

    It is for workers alone. Airflow keeps every masked text until its process ends and searches each line of a log for
    all of them. The triggerer lives for months, where a token every few minutes would slow it down.
    """

    _masked = SecretStr("")

    async def token(self) -> SecretStr:
        """Return the token that authenticates a request, after it was masked."""
        token = await super().token()
        if token != self._masked:
            await amask_secret(token.get_secret_value())
            self._masked = token
        return token


@cache
def client_type(conn_id: str, base: type[ConnectedClient] = ConnectedClient) -> type[ConnectedClient]:
    """Return the type of the clients of one Airflow connection. Clients of one type share a watcher of jobs.

    :param conn_id: the Airflow connection
    :param base: what the type is made from
    """
    return type(base.__name__, (base,), {"stored_as": conn_id})
