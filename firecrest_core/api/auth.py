"""What authenticates requests: a token that is renewed before it expires, or an API key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from pydantic import SecretStr

from firecrest_core.api.client_tokens import ClientTokens
from firecrest_core.api.http import HTTPSession
from firecrest_core.api.own_token import OwnToken
from firecrest_core.api.token import Token
from firecrest_core.connection import Connection
from firecrest_core.errors import AuthenticationFailed


class TokenProvider:
    """Provides a valid access token. Concurrent callers share one token request.

    :param connection: the way to sign in
    :param session: sends the token requests
    :param attempts: how often a token request is sent at most
    """

    def __init__(self, connection: Connection, session: HTTPSession, attempts: int) -> None:
        self._fetch = _source(connection, session, attempts)
        self._token = SecretStr("")
        self._renew_at = 0.0
        self._lock = asyncio.Lock()

    async def token(self) -> SecretStr:
        """Return a token, or the API key, that authenticates a request.

        :raises AuthenticationFailed: the identity provider refused the client, or the user's own token cannot be used
        :raises ConfigurationError: ``token_url`` is no token endpoint, and FirecREST has never answered
        :raises TransientError: the identity provider could not be reached, even after a few retries
        """
        async with self._lock:
            if time.monotonic() >= self._renew_at:
                token = await self._fetch()
                self._token, self._renew_at = token.value, token.renew_at
            return self._token

    def forget(self, token: SecretStr) -> None:
        """Forget a token that the server refused, unless it has been renewed since.

        :param token: the token of the refused request
        """
        if token == self._token:
            self._renew_at = 0.0


def _source(connection: Connection, session: HTTPSession, attempts: int) -> Callable[[], Awaitable[Token]]:
    """Return what gets a token in the connection's way to sign in."""
    sign_in = connection.sign_in
    if sign_in.as_client:
        return ClientTokens(connection, session, attempts).fetch
    if not sign_in.by_api_key:
        return OwnToken(sign_in, connection.timeout, attempts).fetch
    return _ApiKey(connection).fetch


class _ApiKey:
    """Gives the API key, and an error in its place when it is wanted again because it was refused.

    By that error an engine's client knows that it has to look for a new key. After it, the old one is tried again.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._given = False

    async def fetch(self) -> Token:
        self._given = not self._given
        if not self._given:
            connection = self._connection
            raise AuthenticationFailed(f"{connection.url} refuses the API key (HTTP 401). {connection.sign_in.advice}")
        return Token(self._connection.secret)
