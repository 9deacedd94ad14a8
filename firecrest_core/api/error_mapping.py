"""The mapping from httpx's exceptions and the server's error answers to the errors of this package."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from firecrest_core.api.exchange import BodyTooLarge, ExchangeTimedOut
from firecrest_core.api.remote_words import remote_error, remote_text
from firecrest_core.api.submit_limits import passing_limit
from firecrest_core.errors import (
    AccessDenied,
    AnswerTooLarge,
    AuthenticationFailed,
    FileTooLarge,
    FirecRESTError,
    HostNotFound,
    JobNotFound,
    OutsideFileSystems,
    RateLimited,
    RequestRejected,
    RequestTimedOut,
    ServerFault,
    ServerUnreachable,
    SubmissionLimitReached,
    SystemNotFound,
    SystemUnhealthy,
    TLSFailed,
)

# Parts of the alerts with which a server says that a client's certificate is missing or not right.
_OF_CLIENTS = ("CERTIFICATE", "HANDSHAKE_FAILURE", "UNKNOWN_CA")
_PROXY_LOGIN = "The proxy wants a user name and a password (407): give the right ones in the URL of `proxy`."


#: What a request fails with if it gets no answer. httpx does not wrap an alert that comes after a TLS handshake.
NO_ANSWER = (httpx.HTTPError, ssl.SSLError)


def map_failure(error: httpx.HTTPError | ssl.SSLError, what: str, host: str) -> FirecRESTError:
    """Return the error for a request that got no answer.

    The message does not take the URL from ``error``, because that may be presigned.

    :param error: one of :data:`NO_ANSWER`
    :param what: the request in words, for example ``GET /status/systems``
    :param host: the host that it was sent to
    """
    if isinstance(error, httpx.ProxyError):  # the answer of a proxy that leads to no server, for example "407 ..."
        if "407" in str(error):
            return AuthenticationFailed(f"{what}: no way to {host}. {_PROXY_LOGIN}")
        return ServerUnreachable(f"{what}: no way to {host}: its proxy answers {error}.", not_processed=True)
    causes = list(_chain(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return HostNotFound(f"{what}: the host {host} is not known. Check the URL and the network.")
    tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if tls is not None:
        reason = getattr(tls, "verify_message", "") or tls.reason or "handshake failed"
        if "ALERT" in reason and any(word in reason for word in _OF_CLIENTS):
            return TLSFailed(
                f"{what}: {host} refused the TLS connection ({reason}). It seems to ask for a client's certificate: "
                "set `client_cert` to one that the site has issued and that has not expired."
            )
        return TLSFailed(
            f"{what}: no trusted TLS connection to {host} ({reason}). Check that the URL's scheme and port are "
            "right; for a certificate of your site's own authority set `verify` to its CA bundle."
        )
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
        return ServerUnreachable(
            f"{what}: no connection to {host}. Check the URL, or wait until the service answers again.",
            not_processed=True,
        )
    if isinstance(error, ExchangeTimedOut):
        return RequestTimedOut(f"{what}: the answer of {host} did not come to an end.")
    if isinstance(error, BodyTooLarge):
        return AnswerTooLarge(f"{what}: {error} and was not read on. Something seems to answer in the place of {host}.")
    if isinstance(error, httpx.TimeoutException):
        return RequestTimedOut(f"{what}: {host} did not answer in time.")
    return ServerUnreachable(f"{what}: the connection to {host} broke ({type(error).__name__}).")


def map_refusal(response: httpx.Response, what: str, advice: str) -> FirecRESTError:
    """Return the error for an answer with status 400 or above.

    Facts: the recorded exchanges of the real server in ``tests/contract/exchanges.json``.

    :param response: the answer
    :param what: the request in words, for example ``GET /status/systems``
    :param advice: what to look at if the request is refused as not authenticated
    """
    status = response.status_code
    message, cause = _read(response)
    if status in (404, 405) and message in ("", "Not Found", "Method Not Allowed"):  # not FirecREST's own answers
        return RequestRejected(f"{what}: no such endpoint (HTTP {status}). Does the URL point at FirecREST version 2?")
    summary = f"{what}: {message} (HTTP {status})" if message else f"{what}: HTTP {status}"
    if cause and status == 500:
        # The list of jobs wraps a command's timeout or an SSH channel that could not be opened in a 500 of its own.
        if "timeout limit exceeded" in cause:
            return RequestTimedOut(f"{summary}: {cause}")
        if "SSH" in cause:
            return ServerFault(f"{summary}: {cause}", not_processed=True)
        summary = f"{summary}: {cause}"
    limit = passing_limit(message)
    if limit:
        return SubmissionLimitReached(f"{what}: {limit} is reached, so no further job is taken.", limit)
    said = None if status == 408 else remote_text(message)  # 408: the command took too long
    if said is not None:
        return remote_error(said, what)
    if status == 401:
        return AuthenticationFailed(f"{summary}. {advice}")
    if status == 407:
        return AuthenticationFailed(f"{what}: {_PROXY_LOGIN}")
    if status == 403:
        denied = AccessDenied(f"{summary}. Ask the site for access, or use another account.")
        denied.server_message = message
        return denied
    if status == 408:
        return RequestTimedOut(summary)
    if status == 413 and message and what.startswith("GET /compute/"):  # too long, whatever job is asked for
        return ServerFault(f"{summary}. The list of jobs is too long for the server.")
    # Older servers say with a 500 that a file does not fit into the buffer through which they read it.
    if status == 413 or ("exceeded buffer limit" in message and "/filesystem/" in what):
        return FileTooLarge(f"{summary}. The site, or a gateway in front of it, takes less in one request.")
    if status == 424:
        return ServerFault(summary, not_processed=True)
    if status == 429:
        return RateLimited(summary, not_processed=True, retry_after=retry_after(response))
    if status == 503 and "unhealthy" in message:
        return SystemUnhealthy(summary, not_processed=True)
    if "does not match any of the defined filesystem paths" in message:
        return OutsideFileSystems(f"{summary} Choose a path on one of the system's file systems.")
    if status == 404 and message == "System not found":
        return SystemNotFound(f"{summary}. `list_systems` of the hook or the client shows those that exist.")
    if (status == 404 and message == "Job not found.") or "qstat: Unknown Job Id" in message:
        return JobNotFound(summary)
    if status < 500:
        return RequestRejected(summary)
    return ServerFault(summary, server_message=message)


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that a server asks to wait, from ``Retry-After`` or else ``RateLimit-Reset``.

    ``Retry-After`` holds seconds or a date (RFC 9110, 10.2.3).

    :param response: the answer
    :returns: ``None`` if the server does not ask for a pause
    """
    value = response.headers.get("Retry-After", response.headers.get("RateLimit-Reset"))
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def is_of_firecrest(response: httpx.Response) -> bool:
    """Tell whether an error answer is FirecREST's own, and not that of a gateway in front of it.

    :param response: an answer with status 400 or above
    """
    return bool(_own_body(response))


def _own_body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}  # a proxy's HTML page is of no use in a message
    return body if isinstance(body, dict) and "errorType" in body else {}


def _read(response: httpx.Response) -> tuple[str, str]:
    """Return the server's error message and its cause; an empty text for what it does not give."""
    body = _own_body(response)
    causes = body.get("causedBy") or []
    cause = "; ".join(map(str, causes)) if isinstance(causes, list) else str(causes)
    if body.get("errorType") == "validation":
        data = body.get("data")
        fields = data.get("fields") if isinstance(data, dict) else None
        named = [one for one in fields if isinstance(one, dict)] if isinstance(fields, list) else []
        return "; ".join(f"{one.get('name')}: {one.get('message')}" for one in named) or "the request is not valid", ""
    return str(body.get("message") or "").strip(), cause.strip()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
