"""Clients of FirecREST in the API server, for what pages read while somebody looks."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from airflow_provider_firecrest.cancellation.accounts import Account

if TYPE_CHECKING:
    from firecrest_core.api.client import FirecRESTClient

# After this time a connection is read again: it may have been changed.
_SECONDS = 300.0
_MOST = 16


class Clients:
    """One client for each connection, as long as pages ask for it. It belongs to one event loop."""

    def __init__(self) -> None:
        self._clients: OrderedDict[Account, tuple[float, FirecRESTClient]] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    async def get(self, account: Account) -> FirecRESTClient:
        """Return the client of a connection.

        :param account: the connection, as a team reads it
        :raises ConfigurationError: there is no such connection, or it is incomplete
        """
        from firecrest_core.api.client import FirecRESTClient

        since, client = self._clients.get(account, (0.0, None))
        if client is None or time.monotonic() - since > _SECONDS:
            self.forget(account)
            # A viewer waits for the answer, and asks again in a few seconds anyway.
            client = FirecRESTClient(await account.load(), attempts=1)
            self._clients[account] = time.monotonic(), client
            if len(self._clients) > _MOST:
                self.forget(next(iter(self._clients)))
        return client

    def forget(self, account: Account) -> None:
        """Close the client of a connection, for example because its credentials were refused.

        :param account: the connection
        """
        _, client = self._clients.pop(account, (0.0, None))
        if client is not None:
            task = asyncio.ensure_future(client.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
