"""A hook's Airflow connection, and how its coroutines are run from a task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseHook

from airflow_provider_firecrest.exceptions import task_error
from airflow_provider_firecrest.hooks import connection as stored_connection
from firecrest_core.errors import ConfigurationError, FirecRESTError

if TYPE_CHECKING:
    from firecrest_core.api.client import FirecRESTClient
    from firecrest_core.connection import Connection

T = TypeVar("T")


class ConnectedHook(BaseHook):
    """What methods of a hook stand on.

    :param firecrest_conn_id: an Airflow connection of the type ``firecrest``
    """

    conn_name_attr = "firecrest_conn_id"
    default_conn_name = "firecrest_default"
    conn_type = "firecrest"
    hook_name = "FirecREST"

    def __init__(self, firecrest_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.firecrest_conn_id = firecrest_conn_id
        self._connection: Connection | None = None

    def connection(self) -> Connection:
        """Return where FirecREST is and as whom to speak to it.

        :raises ConfigurationError: when the Airflow connection is missing or incomplete
        """
        if self._connection is None:
            try:
                self._connection = stored_connection.load(self.firecrest_conn_id)
            except ConfigurationError as error:
                raise task_error(error) from None
        return self._connection

    async def aconnection(self) -> Connection:
        """Do what :meth:`connection` does, inside an event loop.

        :raises ConfigurationError: when the Airflow connection is missing or incomplete
        """
        if self._connection is None:
            try:
                self._connection = await stored_connection.aload(self.firecrest_conn_id)
            except ConfigurationError as error:
                raise task_error(error) from None
        return self._connection

    @asynccontextmanager
    async def client(self) -> AsyncIterator[FirecRESTClient]:
        """Open the core's client, for what this hook has no method for. It belongs to one event loop."""
        from airflow_provider_firecrest.hooks.client import MaskedClient, client_type

        try:
            async with client_type(self.firecrest_conn_id, MaskedClient)(await self.aconnection()) as client:
                yield client
        except FirecRESTError as error:
            raise task_error(error) from error.__cause__  # as in run()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one of this hook's coroutines to its end.

        :param coroutine: for example ``hook.asubmit_job(…)``
        """
        from firecrest_core.sync import run

        try:
            # Airflow's own call to its supervisor blocks: better before the event loop than inside it.
            self.connection()
            return run(coroutine)
        except FirecRESTError as error:
            # The traceback behind it is asyncio's and httpx's, which tells the reader of a task's log nothing. A cause
            # was given on purpose: what a function has raised on its node.
            raise task_error(error) from error.__cause__
        finally:
            coroutine.close()
