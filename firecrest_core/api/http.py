"""The HTTP session: authentication, a limit on concurrent requests, timeouts, brief retries, checks of the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from pydantic import SecretStr

from firecrest_core import telemetry
from firecrest_core.api.backoff import retry_briefly
from firecrest_core.api.error_mapping import NO_ANSWER, is_of_firecrest, map_failure, map_refusal
from firecrest_core.api.exchange import LIMITS, ExchangeLimits, read_whole, time_limit
from firecrest_core.api.proxy import proxy
from firecrest_core.api.tls import tls_context, warn_if_unprotected
from firecrest_core.api.tracebacks import without_frames
from firecrest_core.connection import Connection
from firecrest_core.errors import FirecRESTError, RequestRejected, UnexpectedAnswer, UserError

_EVERY_FIRECREST_HAS = "/status/systems"

# The deployments that have answered this process as FirecREST, by their URL and token URL.
_reached: set[tuple[str, str]] = set()


class Authorization(Protocol):
    """Provides the tokens that authenticate requests."""

    async def token(self) -> SecretStr:
        """Return the token that authenticates a request."""

    def forget_token(self, token: SecretStr) -> None:
        """Forget a token, because the server refused it."""


class _Authentication(httpx.Auth):
    """Puts a token or an API key into a request's header."""

    def __init__(self, token: SecretStr, *, is_api_key: bool) -> None:
        self._token = token
        self._is_api_key = is_api_key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._is_api_key:
            request.headers["X-API-Key"] = self._token.get_secret_value()
        else:
            request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        yield request


class HTTPSession(httpx.AsyncClient):
    """An HTTP client that authenticates, limits and briefly retries each request, and raises this package's errors.

    It is a session, as pyfirecrest calls it, and no transport: in httpx a transport is what lies below a client.

    GET is repeated after every :class:`~firecrest_core.errors.TransientError`. Any other method is repeated only if the
    server certainly did not process the request.

    At first, an answer that is not FirecREST's means that the URL is wrong, unless FirecREST then answers what every
    deployment does. Once FirecREST has answered there, to any session of this process, such an answer comes from a
    gateway or a maintenance page, and is an :class:`~firecrest_core.errors.UnexpectedAnswer`.

    :param connection: the URL, the timeout, the TLS settings, and how many requests may be in flight at once
    :param authorization: authenticates each request; if the server refuses its token, a new one is tried once
    :param attempts: how often a request is sent at most
    """

    def __init__(self, connection: Connection, authorization: Authorization, attempts: int) -> None:
        warn_if_unprotected(connection)
        # pyfirecrest passes whole URLs, this package only paths. httpx puts the root before a path.
        timeout = httpx.Timeout(connection.timeout, connect=min(connection.timeout, 10.0), pool=None)
        context = tls_context(connection)
        super().__init__(
            base_url=connection.url,
            verify=context,
            proxy=proxy(connection, context),
            timeout=timeout,
            headers={"Accept-Encoding": "gzip"},  # the only encoding that `read_whole` decodes
        )
        self._connection = connection
        self._authorization = authorization
        self._attempts = attempts
        self._slots = asyncio.Semaphore(connection.max_in_flight)

    @property
    def reached(self) -> bool:
        """Whether FirecREST has answered at this URL, here or to the process that submitted a job."""
        return (self._connection.url, self._connection.token_url) in _reached

    def trust_url(self) -> None:
        """Take the URL as right from now on."""
        _reached.add((self._connection.url, self._connection.token_url))

    async def request(self, method: str, url: httpx.URL | str, **options: Any) -> httpx.Response:
        """Send a request, and repeat it a few times if it fails.

        :param method: for example ``GET``
        :param url: a whole URL, or a path below the API's root
        :param options: as ``httpx.AsyncClient.request`` takes them
        :returns: an answer with a status below 400
        :raises FirecRESTError: the last failure or refusal, see :mod:`firecrest_core.api.error_mapping`
        """

        def may_be_repeated(error: BaseException) -> bool:
            return method == "GET" or getattr(error, "not_processed", True)

        return await retry_briefly(
            lambda: self._send_once(method, str(url), dict(options)), attempts=self._attempts, only_if=may_be_repeated
        )

    async def _send_once(self, method: str, url: str, options: dict[str, Any]) -> httpx.Response:
        what = f"{method} {url.removeprefix(self._connection.url)}"
        extra = options.pop("headers", None) or {}
        async with self._slots:
            refused: SecretStr | None = None
            while True:
                token = await self._authorization.token()
                if token == refused:  # a token of the user's own that nobody has renewed
                    break
                # Each attempt has its own id, so that the server's log tells them apart.
                headers = {**extra, "X-Request-ID": str(uuid4())}
                try:
                    response = await self._exchange(method, url, token, headers=headers, **options)
                except NO_ANSWER as error:
                    raise map_failure(error, what, self._connection.route(self._host)) from None
                if response.status_code != 401 or refused is not None:
                    break
                self._authorization.forget_token(token)
                refused = token
        try:
            self._check(response, what)
        except UserError:
            # A gateway's answer, or the URL is wrong.
            unclear = not self.reached and response.status_code != 401 and url != _EVERY_FIRECREST_HAS
            if not unclear or not await self._answers_as_firecrest():
                raise
            self._check(response, what)
        return response

    @without_frames
    async def _exchange(self, method: str, url: str, token: SecretStr, **options: Any) -> httpx.Response:
        authentication = _Authentication(token, is_api_key=self._connection.sign_in.by_api_key)
        began, status = time.monotonic(), "none"
        try:
            response = await super().request(method, url, **{**options, "auth": authentication})
            status = str(response.status_code)
            return response
        finally:
            telemetry.count("requests", method=method, status=status)
            telemetry.timing("request", time.monotonic() - began, method=method)

    async def _answers_as_firecrest(self) -> bool:
        """Ask for what every FirecREST answers."""
        try:
            answer = await self.request("GET", _EVERY_FIRECREST_HAS)
            self.read_json(answer, 200, _EVERY_FIRECREST_HAS)
        except FirecRESTError:
            return False
        return True

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request once, and read its answer within the limits of an exchange.

        :param request: its limits may be in its extensions, under :data:`~firecrest_core.api.exchange.LIMITS`
        :param options: as ``httpx.AsyncClient.send`` takes them; an answer is always read whole
        :raises httpx.HTTPError: no answer came, or it passed a limit
        :raises ssl.SSLError: the server ended the connection after the TLS handshake
        """
        sent = int(request.headers.get("Content-Length", 0))
        limits = request.extensions.get(LIMITS) or ExchangeLimits.for_content(self._connection.timeout, sent)
        async with time_limit(limits.seconds):
            return await read_whole(await super().send(request, **{**options, "stream": True}), limits.answer_size)

    def _check(self, response: httpx.Response, what: str) -> None:
        status = response.status_code
        if status >= 400:
            error = map_refusal(response, f"{what} at {self._connection.url}", self._connection.sign_in.advice)
            if is_of_firecrest(response):
                self.trust_url()
            elif self.reached and error.user_error and not (status == 401 or _says_too_large(response)):
                error = self.unexpected(what, f"HTTP {status} without FirecREST's words")
            raise error
        if status >= 300 or response.headers.get("Content-Type", "").startswith("text/html"):
            raise self.unexpected(what, f"HTTP {status} with a page or an address for a browser")

    def read_json(self, response: httpx.Response, expected_status: int, what: str) -> Any:
        """Return an answer's JSON.

        :param response: the answer
        :param expected_status: the status that FirecREST documents
        :param what: the request in words, for the message
        :returns: the parsed JSON, or ``None`` if the expected status is 204 (no content)
        :raises RequestRejected: the answer is not FirecREST's, and FirecREST has never answered
        :raises UnexpectedAnswer: the answer is not FirecREST's, but FirecREST has answered before
        """
        if response.status_code != expected_status:
            raise self.unexpected(what, f"HTTP {response.status_code} is not what was due")
        answer = None
        if expected_status != 204:  # No Content
            try:
                answer = response.json()
            except (ValueError, RecursionError):  # a number of 5,000 digits, and a nesting of 100,000, are JSON, too
                raise self.unexpected(what, "the answer is not JSON") from None
        self.trust_url()
        return answer

    def unexpected(self, what: str, problem: str) -> FirecRESTError:
        """Return the error for an answer that is not FirecREST's.

        :param what: the request in words
        :param problem: what is wrong with the answer, in words
        """
        text = f"{what} at {self._host}: {problem}."
        if self.reached:
            return UnexpectedAnswer(
                f"{text} A gateway or a maintenance page seems to answer in the place of FirecREST."
            )
        return RequestRejected(f"{text} Does the URL point at FirecREST version 2?")

    @property
    def _host(self) -> str:
        return urlsplit(self._connection.url).netloc


def _says_too_large(response: httpx.Response) -> bool:
    """Tell whether an answer, even a gateway's, says of its own request that its content is too large."""
    request = response.request
    return response.status_code == 413 and (request.method != "GET" or request.url.path.endswith("/ops/download"))
