"""A FirecREST deployment as one user, and the systems behind it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from pydantic import SecretStr

from firecrest_core.api.auth import TokenProvider
from firecrest_core.api.backoff import ATTEMPTS
from firecrest_core.api.compute import ComputeEndpoints
from firecrest_core.api.filesystem import FilesystemEndpoints
from firecrest_core.api.models import SystemInfo
from firecrest_core.api.requests import Requests
from firecrest_core.connection import Connection


class FirecRESTClient:
    """A client for one FirecREST v2 deployment and one user.

    It is an asynchronous context manager and belongs to one event loop::

        async with FirecRESTClient(connection) as client:
            rows = await client.system("daint").get_job("57")

    After a :class:`~firecrest_core.errors.TransientError`, GET requests are repeated a few times with backoff and
    jitter. Other requests are repeated only if the server certainly did not process them. Every method may raise the
    errors in :mod:`firecrest_core.errors`. The first request opens the connections.

    :param connection: the deployment and the user
    :param attempts: how often a request is sent at most; 1 for a caller that retries by itself
    """

    def __init__(self, connection: Connection, *, attempts: int = ATTEMPTS) -> None:
        self.connection = connection
        self.requests = Requests(connection, self, attempts)
        self._attempts = attempts
        self._systems: dict[str, System] = {}
        self._token_provider: TokenProvider | None = None

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
        """Return a system behind this FirecREST. This sends no request.

        :param name: for example ``daint``; the connection's default system if left out
        :raises ConfigurationError: neither names a system
        """
        name = self.connection.system_or_default(name)
        if name not in self._systems:
            self._systems[name] = System(self, name)
        return self._systems[name]

    def trust_url(self) -> None:
        """Take the connection's URL as right, because a job was submitted through it.

        From now on, an answer that is not FirecREST's is an outage. A process that waits for a job and was started anew
        has not seen an answer of FirecREST itself.
        """
        self.requests.session.trust_url()

    async def list_systems(self) -> list[SystemInfo]:
        """Return the systems behind this FirecREST, with their health and limits."""
        return await self.requests.list_systems()

    async def token(self) -> SecretStr:
        """Return the token that authenticates a request; a subclass may take it from elsewhere."""
        return await self._tokens.token()

    def forget_token(self, token: SecretStr) -> None:
        """Forget a token, because the server refused it."""
        self._tokens.forget(token)

    def use_credentials(self, connection: Connection) -> None:
        """Use the client id and secret of another connection from now on. Everything else stays as it was.

        :param connection: names the token endpoint and the client
        """
        self._token_provider = TokenProvider(connection, self.requests.session, self._attempts)

    @property
    def _tokens(self) -> TokenProvider:
        if self._token_provider is None:
            self._token_provider = TokenProvider(self.connection, self.requests.session, self._attempts)
        return self._token_provider


class System(ComputeEndpoints, FilesystemEndpoints):
    """A system (cluster) behind a FirecREST, with the requests for its jobs and files.

    :meth:`FirecRESTClient.system` creates it.
    """

    def __init__(self, client: FirecRESTClient, name: str) -> None:
        super().__init__(client.requests, name)
        self.client = client

    @property
    def connection(self) -> Connection:
        """The connection of the client that this system belongs to."""
        return self.client.connection
