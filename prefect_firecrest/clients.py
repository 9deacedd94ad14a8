"""The core's clients with the block behind them that holds their credentials.

A block is read again when its credentials are refused: jobs wait for weeks, and secrets are rotated meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from typing import TYPE_CHECKING, ClassVar

from firecrest_core.api.client import FirecRESTClient
from firecrest_core.api.renewal import RenewingClient
from prefect_firecrest.credentials import FirecRESTCredentials
from prefect_firecrest.prefect_internals import settings_context
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from firecrest_core.connection import Connection


class BlockClient(RenewingClient):
    """A client that reads its block again when its credentials are refused.

    :cvar stored_as: the block's name
    :cvar context: the context in which Prefect's API is the one that has the block
    """

    context: ClassVar[Context]

    async def load_connection(self) -> Connection:
        """Return the connection as the block has it now."""
        loading = asyncio.create_task(FirecRESTCredentials.aload(self.stored_as), context=self.context)
        credentials: FirecRESTCredentials = await loading
        return credentials.connection()


class _ClientTypes(dict[tuple[str, str], type[BlockClient]]):
    """The types of this process, by Prefect's API and the block's name."""


def client_type(saved_as: str | None) -> type[FirecRESTClient]:
    """Return the type of the clients of one block. Clients of one type share a watcher of jobs.

    :param saved_as: the block's name; ``None`` for credentials that were never saved
    """
    from prefect.settings import PREFECT_API_URL

    if saved_as is None:
        return FirecRESTClient
    types, key = runtime.state(_ClientTypes), (PREFECT_API_URL.value() or "", saved_as)
    if key not in types:
        found = {"stored_as": saved_as, "context": settings_context()}
        types[key] = type(BlockClient.__name__, (BlockClient,), found)
    return types[key]


@asynccontextmanager
async def client_of(connection: Connection, saved_as: str | None) -> AsyncIterator[FirecRESTClient]:
    """Use this process's client for a connection; see :meth:`prefect_firecrest.runtime.Runtime.client`.

    :param saved_as: the name of the block that the connection is from; ``None`` for one that was never saved
    """
    async with runtime.client(connection, client_type(saved_as)) as client:
        yield client
