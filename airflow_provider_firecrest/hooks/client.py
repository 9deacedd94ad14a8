"""The core's client with an Airflow connection behind it."""

from __future__ import annotations

import logging
from functools import cache
from typing import ClassVar

from airflow.sdk.log import amask_secret

from firecrest_core.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.errors import AuthenticationFailed

log = logging.getLogger(__name__)


class ConnectedClient(FirecRESTClient):
    """A client that takes up the credentials that its Airflow connection has by now, when its own are refused.

    Tasks wait for weeks, and secrets are rotated meanwhile. What is asked, and where, stays as it was.

    :cvar conn_id: set by :func:`client_type`
    """

    conn_id: ClassVar[str]
    _newest: Connection | None = None

    async def _auth_headers(self) -> dict[str, str]:
        try:
            headers: dict[str, str] = await super()._auth_headers()
        except AuthenticationFailed:
            newest = await self._stored()
            if newest is None or newest == (self._newest or self.connection):
                raise
            log.info("The client of the connection %s is refused; trying what is stored by now.", self.conn_id)
            self._newest = newest
            self.use_credentials(newest)
            headers = await super()._auth_headers()
        return headers

    async def _stored(self) -> Connection | None:
        from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook

        try:
            return await FirecRESTHook(self.conn_id).aconnection()
        except Exception as error:  # whatever keeps Airflow from telling, the refusal is what has to be told
            log.debug("The connection %s cannot be read again: %s", self.conn_id, error)
            return None


class MaskedClient(ConnectedClient):
    """A client whose access tokens would appear as ``***`` in a task's log.

    For workers alone. Airflow keeps every masked text until its process ends and searches each line of a log
    for all of them: in the triggerer, which lives for months, a token every few minutes would slow it down.
    """

    _masked = ""

    async def _auth_headers(self) -> dict[str, str]:
        headers = await super()._auth_headers()
        token = headers["Authorization"].removeprefix("Bearer ")
        if token != self._masked:
            await amask_secret(token)
            self._masked = token
        return headers


@cache
def client_type(conn_id: str, base: type[ConnectedClient] = ConnectedClient) -> type[ConnectedClient]:
    """Return the type of the clients of one Airflow connection: they share a watcher, as the core sees it."""
    return type(base.__name__, (base,), {"conn_id": conn_id})
