"""Tokens that an identity provider gives to an OAuth2 client (client credentials grant, RFC 6749)."""

from __future__ import annotations

import math
import time
from typing import Annotated, Any
from urllib.parse import quote_plus, urlsplit

import httpx
from pydantic import BaseModel, BeforeValidator, SecretStr, ValidationError

from firecrest_core.api.backoff import retry_briefly
from firecrest_core.api.error_mapping import NO_ANSWER, map_failure, retry_after
from firecrest_core.api.exchange import LIMITS, ExchangeLimits
from firecrest_core.api.http import HTTPSession
from firecrest_core.api.token import MIN_REMAINING, Token, seconds_left
from firecrest_core.api.tracebacks import without_frames
from firecrest_core.connection import Connection, is_header_value
from firecrest_core.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ServerFault,
    TransientError,
    UnexpectedAnswer,
)
from firecrest_core.sign_in import SignInKind

# Seconds, for an answer that does not say how long its token is valid.
_USUAL_LIFETIME = 300.0

_OTHER_WAY = {
    SignInKind.CLIENT_SECRET_POST: SignInKind.CLIENT_SECRET_BASIC,
    SignInKind.CLIENT_SECRET_BASIC: SignInKind.CLIENT_SECRET_POST,
}


def _seconds(given: Any) -> float | None:
    """Read what an issuer says of a lifetime: a number, a number as text, or nothing that can be used."""
    try:
        seconds = float(given)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


class _Answer(BaseModel):
    access_token: SecretStr
    expires_in: Annotated[float | None, BeforeValidator(_seconds)] = None

    @property
    def lifetime(self) -> float:
        if self.expires_in is not None:
            return self.expires_in
        left = seconds_left(self.access_token)
        return _USUAL_LIFETIME if left is None else left


class ClientTokens:
    """Asks an identity provider for tokens.

    :param connection: names the token endpoint and the client
    :param session: sends the requests
    :param attempts: how often a request is sent at most
    """

    def __init__(self, connection: Connection, session: HTTPSession, attempts: int) -> None:
        self._connection = connection
        self._session = session
        self._attempts = attempts
        self._host = urlsplit(connection.token_url).netloc
        self._what = f"Token for the client {connection.client_id!r} from {self._host}"

    async def fetch(self) -> Token:
        """Return a new token.

        :raises AuthenticationFailed: the identity provider refused the client, or its tokens are of no use
        :raises ConfigurationError: ``token_url`` is no token endpoint, and FirecREST has never answered
        :raises TransientError: the identity provider could not be reached, even after a few retries
        """
        asked_at = time.monotonic()
        answer = await retry_briefly(self._ask, attempts=self._attempts)
        if answer.lifetime <= MIN_REMAINING:
            raise AuthenticationFailed(
                f"{self._what}: it is valid for {answer.lifetime:g} s, and FirecREST refuses tokens that expire within "
                f"{MIN_REMAINING:g} s. Ask the site for tokens of this client that live for some minutes."
            )
        return Token(answer.access_token, asked_at + answer.lifetime)

    @without_frames
    async def _ask(self) -> _Answer:
        try:
            # Use `send`: the session's `request` would ask for a token first.
            answer = await self._session.send(self._request(), auth=self._basic())
        except NO_ANSWER as error:
            failure = map_failure(error, self._what, self._connection.route(self._host))
            if isinstance(failure, TransientError):
                failure.not_processed = True  # without a token, the request that needs it was never sent
            raise failure from None
        if answer.status_code >= 500 or answer.status_code in (408, 429):
            raise ServerFault(
                f"{self._what}: HTTP {answer.status_code}", not_processed=True, retry_after=retry_after(answer)
            )
        if answer.status_code in (400, 401, 403):
            raise self._refusal(answer)
        return self._read(answer)

    def _request(self) -> httpx.Request:
        connection = self._connection
        form = {"grant_type": "client_credentials"}
        if connection.sign_in.kind is SignInKind.CLIENT_SECRET_POST:
            form |= {"client_id": connection.client_id, "client_secret": connection.secret.get_secret_value()}
        if connection.scopes:
            form["scope"] = " ".join(connection.scopes)
        limits = {LIMITS: ExchangeLimits.for_token(connection.timeout)}
        return self._session.build_request("POST", connection.token_url, data=form, extensions=limits)

    def _basic(self) -> httpx.BasicAuth | None:
        if self._connection.sign_in.kind is not SignInKind.CLIENT_SECRET_BASIC:
            return None
        # RFC 6749, 2.3.1: both are encoded as in a form first.
        secret = self._connection.secret.get_secret_value()
        return httpx.BasicAuth(quote_plus(self._connection.client_id), quote_plus(secret))

    def _refusal(self, answer: httpx.Response) -> AuthenticationFailed:
        code, words = _read_refusal(answer)
        message = f"{self._what}: refused{f': {words}' if words else ''} (HTTP {answer.status_code}). "
        message += "Check the client's id, secret and scopes."
        if code == "invalid_client":
            other = _OTHER_WAY[self._connection.sign_in.kind]
            message += f" If they are right, the site may want the secret in the other way: set auth to {other}."
        return AuthenticationFailed(message)

    def _read(self, answer: httpx.Response) -> _Answer:
        try:
            token = _Answer.model_validate_json(answer.content)
            if is_header_value(token.access_token):
                return token
        except ValidationError:
            pass
        problem = f"{self._what}: the answer (HTTP {answer.status_code}) is no OAuth2 token."
        if self._session.reached:
            raise UnexpectedAnswer(f"{problem} A gateway seems to answer instead.", not_processed=True)
        raise ConfigurationError(f"{problem} Check the token URL.")


def _read_refusal(answer: httpx.Response) -> tuple[str, str]:
    """Return the provider's error code and its description (RFC 6749, 5.2), each empty if there is none."""
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(body, dict):
        return "", ""
    code, words = body.get("error"), body.get("error_description") or body.get("error")
    return (code if isinstance(code, str) else ""), (words if isinstance(words, str) else "")
