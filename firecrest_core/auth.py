"""Access tokens: OAuth2 client credentials, renewed before the server would refuse them."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, SecretStr, ValidationError
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from firecrest_core.connection import Connection
from firecrest_core.errors import (
    AuthenticationFailed,
    ConfigurationError,
    HostNotFound,
    ServerFault,
    TransientError,
)
from firecrest_core.transport import asked_pause, failure

ATTEMPTS = 4
_backoff = wait_random_exponential(0.5, max=4)


def worth_retrying(error: BaseException) -> bool:
    """Tell whether a short, bounded retry may help. A name may fail to resolve for a moment."""
    return isinstance(error, (TransientError, HostNotFound))


class _Token(BaseModel):
    access_token: SecretStr
    expires_in: float = 300.0


class TokenProvider:
    """Hands out a token that is good for the next request; one request for many who ask at once.

    FirecREST refuses tokens with less than 30 s left, so a token is renewed 60 s ahead, or 35 s where it
    lives less than two minutes.
    """

    def __init__(self, connection: Connection, session: httpx.AsyncClient, attempts: int = ATTEMPTS) -> None:
        self._connection = connection
        self._session = session
        self._attempts = attempts
        self._token = ""
        self._renew_at = 0.0
        self._lock = asyncio.Lock()

    async def auth_headers(self) -> dict[str, str]:
        """Return the header that authenticates a request (the contract of pyfirecrest).

        :raises AuthenticationFailed: when the identity provider refuses the client
        :raises ConfigurationError: when ``token_url`` is no token endpoint
        :raises TransientError: when the identity provider cannot be reached, after a bounded retry
        """
        async with self._lock:
            if time.monotonic() >= self._renew_at:
                await self._renew()
            return {"Authorization": f"Bearer {self._token}"}

    def forget(self, headers: dict[str, str]) -> None:
        """Drop the token that ``headers`` carries: the server refused it. A newer one stays."""
        if headers.get("Authorization") == f"Bearer {self._token}":
            self._renew_at = 0.0

    async def _renew(self) -> None:
        asked_at = time.monotonic()
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(worth_retrying),
            stop=stop_after_attempt(self._attempts),
            wait=_backoff,
            reraise=True,
        ):
            with attempt:
                token = await self._ask()
        ahead = 60.0 if token.expires_in >= 120 else 35.0
        self._token = token.access_token.get_secret_value()
        self._renew_at = asked_at + token.expires_in - ahead

    async def _ask(self) -> _Token:
        connection = self._connection
        host = urlsplit(connection.token_url).netloc
        what = f"Token for the client {connection.client_id!r} from {host}"
        form = {
            "grant_type": "client_credentials",
            "client_id": connection.client_id,
            "client_secret": connection.client_secret,
        }
        if connection.scopes:
            form["scope"] = " ".join(connection.scopes)
        try:
            answer = await self._session.post(connection.token_url, data=form)
        except httpx.HTTPError as error:
            raise failure(error, what, host) from None
        if answer.status_code >= 500 or answer.status_code in (408, 429):
            raise ServerFault(f"{what}: HTTP {answer.status_code}", nothing_done=True, retry_after=asked_pause(answer))
        if answer.status_code in (400, 401, 403):
            raise AuthenticationFailed(
                f"{what}: refused{_why(answer)} (HTTP {answer.status_code}). Check the client's id, secret and scopes."
            )
        try:
            return _Token.model_validate_json(answer.content)
        except ValidationError:
            raise ConfigurationError(
                f"{what}: the answer (HTTP {answer.status_code}) is no OAuth2 token. Check the token URL."
            ) from None


def _why(answer: httpx.Response) -> str:
    """The provider's words (RFC 6749, 5.2), where it has any."""
    try:
        body = answer.json()
    except ValueError:
        return ""
    words = body.get("error_description") or body.get("error") if isinstance(body, dict) else None
    return f": {words}" if isinstance(words, str) else ""
