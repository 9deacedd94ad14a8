"""Access tokens by OAuth2 client credentials, renewed before they expire."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from firecrest_core.api.backoff import retry_briefly
from firecrest_core.api.error_mapping import map_failure, retry_after
from firecrest_core.api.exchange import LIMITS, ExchangeLimits
from firecrest_core.api.http import HTTPSession
from firecrest_core.api.tracebacks import without_frames
from firecrest_core.connection import Connection
from firecrest_core.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ServerFault,
    TransientError,
    UnexpectedAnswer,
)


class _Token(BaseModel):
    access_token: SecretStr
    expires_in: float = 300.0


class TokenProvider:
    """Provides a valid access token. Concurrent callers share one token request.

    FirecREST refuses tokens with less than 30 s left. So a token is renewed 60 s before it expires, or 35 s before if
    it is valid for less than two minutes.

    :param connection: names the token endpoint and the client
    :param session: sends the token request
    :param attempts: how often a token request is sent at most
    """

    def __init__(self, connection: Connection, session: HTTPSession, attempts: int) -> None:
        self._connection = connection
        self._session = session
        self._attempts = attempts
        self._token = SecretStr("")
        self._renew_at = 0.0
        self._lock = asyncio.Lock()

    async def token(self) -> SecretStr:
        """Return a token that authenticates a request.

        :raises AuthenticationFailed: the identity provider refused the client
        :raises ConfigurationError: ``token_url`` is no token endpoint, and FirecREST has never answered
        :raises TransientError: the identity provider could not be reached, even after a few retries
        """
        async with self._lock:
            if time.monotonic() >= self._renew_at:
                await self._renew()
            return self._token

    def forget(self, token: SecretStr) -> None:
        """Forget a token that the server refused, unless it has been renewed since.

        :param token: the token of the refused request
        """
        if token == self._token:
            self._renew_at = 0.0

    async def _renew(self) -> None:
        asked_at = time.monotonic()
        token = await retry_briefly(self._request_token, attempts=self._attempts)
        ahead = 60.0 if token.expires_in >= 120 else 35.0
        self._token = token.access_token
        self._renew_at = asked_at + token.expires_in - ahead

    @without_frames
    async def _request_token(self) -> _Token:
        connection = self._connection
        host = urlsplit(connection.token_url).netloc
        what = f"Token for the client {connection.client_id!r} from {host}"
        form = {
            "grant_type": "client_credentials",
            "client_id": connection.client_id,
            "client_secret": connection.secret.get_secret_value(),
        }
        if connection.scopes:
            form["scope"] = " ".join(connection.scopes)
        limits = {LIMITS: ExchangeLimits.for_token(connection.timeout)}
        request = self._session.build_request("POST", connection.token_url, data=form, extensions=limits)
        try:
            # Use `send`: the session's `request` would ask for a token first.
            answer = await self._session.send(request)
        except httpx.HTTPError as error:
            failure = map_failure(error, what, host)
            if isinstance(failure, TransientError):
                failure.not_processed = True  # without a token, the request that needs it was never sent
            raise failure from None
        if answer.status_code >= 500 or answer.status_code in (408, 429):
            raise ServerFault(f"{what}: HTTP {answer.status_code}", not_processed=True, retry_after=retry_after(answer))
        if answer.status_code in (400, 401, 403):
            raise AuthenticationFailed(
                f"{what}: refused{_why(answer)} (HTTP {answer.status_code}). Check the client's id, secret and scopes."
            )
        try:
            return _Token.model_validate_json(answer.content)
        except ValidationError:
            problem = f"{what}: the answer (HTTP {answer.status_code}) is no OAuth2 token."
            if self._session.reached:
                raise UnexpectedAnswer(f"{problem} A gateway seems to answer instead.", not_processed=True) from None
            raise ConfigurationError(f"{problem} Check the token URL.") from None


def _why(answer: httpx.Response) -> str:
    """Return the provider's error description (RFC 6749, 5.2) with a colon before it, or an empty text."""
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        return ""
    words = body.get("error_description") or body.get("error") if isinstance(body, dict) else None
    return f": {words}" if isinstance(words, str) else ""
