"""How requests are sent: as pyfirecrest words them, with timeouts, bounded retries, few at a time, and with answers
that are checked."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from firecrest.v2 import AsyncFirecrest
from pydantic import TypeAdapter, ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from firecrest_core.auth import ATTEMPTS, TokenProvider, worth_retrying
from firecrest_core.connection import Connection
from firecrest_core.errors import FirecRESTError, RequestRejected, RequestTimedOut, ServerFault
from firecrest_core.transport import failure, refusal, tls

T = TypeVar("T")

# Seconds. Whom a server asks to stay away for longer is told so, and may have better things to do than to wait.
_LONGEST_RETRY_AFTER = 30.0

# httpx's timeouts are for each piece of an answer; one that trickles for ever must end, too.
_WHOLE = 10

_backoff = wait_random_exponential(0.5, max=4)


class Sender(AsyncFirecrest):
    """pyfirecrest's client with its sending, retrying and reading of answers replaced.

    Requests that change nothing are repeated a few times with backoff and jitter when a
    :class:`~firecrest_core.errors.TransientError` comes back; others only where the server certainly did nothing.

    :param connection: where, and as whom
    :param attempts: how often a request is sent at the most; 1 for a caller who asks again by itself
    """

    def __init__(self, connection: Connection, *, attempts: int = ATTEMPTS) -> None:
        self.connection = connection
        self._attempts = attempts
        self._host = urlsplit(connection.url).netloc
        connect = min(connection.timeout, 10.0)
        super().__init__(connection.url, None, verify=tls(connection.verify))
        self.timeout = httpx.Timeout(connection.timeout, connect=connect, pool=None)
        self._session.timeout = self.timeout
        self._authorization = TokenProvider(connection, self._session, attempts)
        self._slots = asyncio.Semaphore(connection.max_in_flight)

    def use_credentials(self, connection: Connection) -> None:
        """Ask for tokens as ``connection`` says from now on; all else stays as it was."""
        self._authorization = TokenProvider(connection, self._session, self._attempts)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close_session()

    async def _get_request(self, endpoint: str, additional_headers: Any = None, params: Any = None) -> httpx.Response:
        params = {key: value for key, value in (params or {}).items() if value is not None}
        return await self._send("GET", endpoint, repeat=True, headers=additional_headers, params=params)

    async def _post_request(
        self,
        endpoint: str,
        additional_headers: Any = None,
        params: Any = None,
        data: Any = None,
        files: Any = None,
        json_data: Any = None,
    ) -> httpx.Response:
        return await self._send(
            "POST", endpoint, headers=additional_headers, params=params, data=data, files=files, json=json_data
        )

    async def _put_request(
        self, endpoint: str, additional_headers: Any = None, data: Any = None, json_data: Any = None
    ) -> httpx.Response:
        return await self._send("PUT", endpoint, headers=additional_headers, data=data, json=json_data)

    async def _delete_request(
        self, endpoint: str, additional_headers: Any = None, params: Any = None, data: Any = None
    ) -> httpx.Response:
        return await self._send("DELETE", endpoint, headers=additional_headers, params=params, data=data)

    async def _send(self, method: str, endpoint: str, *, repeat: bool = False, **request: Any) -> httpx.Response:
        """Send a request until it is answered well, a few times at the most.

        :param repeat: whether it may be sent again although the server may have acted on it
        """

        def again(error: BaseException) -> bool:
            return (
                worth_retrying(error)
                and (repeat or getattr(error, "nothing_done", True))
                and _asked_pause(error) <= _LONGEST_RETRY_AFTER
            )

        async for attempt in AsyncRetrying(
            retry=retry_if_exception(again), stop=stop_after_attempt(self._attempts), wait=_pause, reraise=True
        ):
            with attempt:
                return await self._send_once(method, endpoint, **request)
        raise AssertionError("tenacity re-raises the last error")

    async def _send_once(self, method: str, endpoint: str, **request: Any) -> httpx.Response:
        what = f"{method} {endpoint}"
        extra = request.pop("headers", None) or {}
        async with self._slots:
            for renewed in (False, True):
                auth = await self._auth_headers()
                headers = {**self._tracing_headers(), **auth, **extra}
                try:
                    async with asyncio.timeout(_WHOLE * self.connection.timeout):
                        response = await self._session.request(
                            method, f"{self.connection.url}{endpoint}", headers=headers, timeout=self.timeout, **request
                        )
                except httpx.HTTPError as error:
                    raise failure(error, what, self._host) from None
                except TimeoutError:
                    raise RequestTimedOut(f"{what}: the answer of {self._host} did not come to an end.") from None
                self._update_api_version_from_response(response)
                if response.status_code != 401 or renewed:
                    break
                self._authorization.forget(auth)
        if response.status_code >= 400:
            raise refusal(response, f"{what} at {self.connection.url}")
        return response

    def _check_response(self, response: httpx.Response, expected_status_code: int, return_json: bool = True) -> Any:
        if response.status_code != expected_status_code:
            what = f"{response.request.method} {response.request.url.path} at {self._host}"
            raise RequestRejected(
                f"{what}: HTTP {response.status_code} where {expected_status_code} was due. Does the URL point at "
                "FirecREST version 2?"
            )
        if not return_json or response.status_code == 204:
            return {}
        try:
            return response.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise RequestRejected(
                f"{response.request.method} {response.request.url.path} at {self._host}: the answer is not JSON. "
                "Does the URL point at FirecREST version 2?"
            ) from None

    def _read(self, form: type[T], answer: Any, what: str) -> T:
        try:
            return TypeAdapter(form).validate_python(answer)
        except ValidationError as error:
            where = "; ".join(".".join(map(str, one["loc"])) + " " + one["type"] for one in error.errors()[:3])
            raise ServerFault(f"{what}: the answer has not the form of FirecREST version 2 ({where}).") from None


def _pause(state: RetryCallState) -> float:
    """Wait a growing, jittered while, and as long as the server asked for."""
    return max(_asked_pause(state.outcome.exception() if state.outcome else None), _backoff(state))


def _asked_pause(error: BaseException | None) -> float:
    return (error.retry_after or 0.0) if isinstance(error, FirecRESTError) else 0.0
