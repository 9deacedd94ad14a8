"""The core's client with an Airflow connection behind it."""

from __future__ import annotations

import logging
from functools import cache
from typing import ClassVar

from airflow.sdk.log import amask_secret
from pydantic import SecretStr

from airflow_provider_firecrest.hooks import connection as stored_connection
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.errors import AuthenticationFailed

log = logging.getLogger(__name__)


class ConnectedClient(FirecRESTClient):
    """A client that reads its Airflow connection again when its credentials are refused.

    Tasks wait for weeks, and secrets are rotated meanwhile. The client takes the newest credentials; the URL and all
    other settings stay as they were.

    :cvar conn_id: set by :func:`client_type`
    """

    conn_id: ClassVar[str]
    _newest: Connection | None = None

    async def token(self) -> SecretStr:
        """Return the token that authenticates a request.

        :raises AuthenticationFailed: when the identity provider refuses what is stored now as well
        """
        try:
            return await super().token()
        except AuthenticationFailed:
            newest = await self._load_connection()
            if newest is None or newest == (self._newest or self.connection):
                raise
        log.info("The client of the connection %s is refused; trying what is stored now.", self.conn_id)
        self._newest = newest
        self.use_credentials(newest)
        return await super().token()

    async def _load_connection(self) -> Connection | None:
        try:
            return await stored_connection.aload(self.conn_id)
        except Exception as error:  # whatever keeps Airflow from answering, the user has to read of the refusal
            log.debug("The connection %s cannot be read again: %s", self.conn_id, error)
            return None


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
    return type(base.__name__, (base,), {"conn_id": conn_id})
