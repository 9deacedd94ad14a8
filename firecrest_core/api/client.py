"""A FirecREST deployment as one user, and the systems behind it."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import Self

from firecrest_core.api.auth import TokenProvider
from firecrest_core.api.backoff import ATTEMPTS
from firecrest_core.api.compute import ComputeEndpoints
from firecrest_core.api.filesystem import FilesystemEndpoints
from firecrest_core.api.models import SystemInfo
from firecrest_core.api.requests import Requests
from firecrest_core.connection import Connection


class FirecRESTClient:
    """A FirecREST v2 deployment, as one user; an asynchronous context manager that belongs to one event loop::

        async with FirecRESTClient(connection) as client:
            rows = await client.system("daint").get_job("57")

    Requests that change nothing are repeated a few times with backoff and jitter when a
    :class:`~firecrest_core.errors.TransientError` comes back; others only where the server certainly did nothing.
    Every method may raise the errors that :mod:`firecrest_core.errors` lists. Nothing is opened before the first
    request.

    :param connection: where, and as whom
    :param attempts: how often a request is sent at the most; 1 for a caller who asks again by itself
    """

    def __init__(self, connection: Connection, *, attempts: int = ATTEMPTS) -> None:
        self.connection = connection
        self.requests = Requests(connection, self, attempts)
        self._attempts = attempts
        self._systems: dict[str, System] = {}

    def __repr__(self) -> str:
        return f"FirecRESTClient({self.connection!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self.requests.aclose()

    def system(self, name: str | None = None) -> System:
        """Return a system behind this FirecREST; nothing is asked.

        :param name: for example ``daint``; the connection's default system if left out
        :raises ConfigurationError: neither names a system
        """
        name = self.connection.system_or_default(name)
        if name not in self._systems:
            self._systems[name] = System(self, name)
        return self._systems[name]

    async def list_systems(self) -> list[SystemInfo]:
        """Return the systems behind this FirecREST, with their health and limits."""
        return await self.requests.list_systems()

    async def auth_headers(self) -> dict[str, str]:
        """Return the header that authenticates a request; a subclass may take the token from elsewhere."""
        return await self._tokens.auth_headers()

    def forget_token(self, headers: dict[str, str]) -> None:
        """Drop the token that these headers carry, because the server refused it."""
        self._tokens.forget(headers)

    def use_credentials(self, connection: Connection) -> None:
        """Ask for tokens as ``connection`` says from now on; all else stays as it was."""
        self._tokens = TokenProvider(connection, self.requests.session, self._attempts)

    @cached_property
    def _tokens(self) -> TokenProvider:
        return TokenProvider(self.connection, self.requests.session, self._attempts)


class System(ComputeEndpoints, FilesystemEndpoints):
    """A system (cluster) behind a FirecREST, as one user: what jobs run on and where files are.

    :meth:`FirecRESTClient.system` makes it.
    """

    def __init__(self, client: FirecRESTClient, name: str) -> None:
        super().__init__(client.requests, name)
        self.client = client

    @property
    def connection(self) -> Connection:
        """Where the FirecREST is, and as whom we speak to it."""
        return self.client.connection
