"""Carries faults out, between the connection and the application."""

from __future__ import annotations

import logging
import math

from anyio import sleep
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firecrest_local.errors import CommandTimeout, error_body
from firecrest_local.faults.connections import close_connection, is_closed, reset_connection
from firecrest_local.faults.control import CONTROL_PATH, FaultControl, Injection
from firecrest_local.faults.plan import (
    CutBody,
    Delay,
    Duplicate,
    EarlyTokenExpiry,
    LoseAnswer,
    RequestRule,
    Reset,
    SlowBody,
    Status,
    Timeout408,
)

log = logging.getLogger(__name__)

#: The real server's messages. The system's name is filled in.
_MESSAGES = {
    401: "Access token is invalid.",
    408: "Command execution timeout limit exceeded.",
    424: "Unable to open a new SSH channel.",
    429: "API rate limit exceeded",
    503: "The scheduler service for the requested system ({system}) is unhealthy.",
}
#: The titles of the pages with which a proxy in front of the real server answers.
_PAGES = {502: "502 Bad Gateway", 504: "504 Gateway Time-out"}
#: Seconds between two chunks of a slow body.
_CHUNK_INTERVAL = 0.05


async def _discard(message: Message) -> None:
    """Send nothing."""


def error_response(rule: Status, system: str) -> Response:
    """Make the answer that a rule asks for."""
    retry_after = 1 if rule.status == 429 and rule.retry_after is None else rule.retry_after
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if rule.message is None and rule.status in _PAGES:
        title = _PAGES[rule.status]
        page = f"<html>\n<head><title>{title}</title></head>\n<body><center><h1>{title}</h1></center></body>\n</html>\n"
        return HTMLResponse(page, rule.status, headers)
    message = rule.message or _MESSAGES.get(rule.status, "Internal Server Error").format(system=system)
    return JSONResponse(error_body(message, None), rule.status, headers)


class FaultMiddleware:
    """Injects the faults of a plan into the requests of an application.

    :param app: the application.
    :param control: the faults.
    :param system: the system's name.
    """

    def __init__(self, app: ASGIApp, control: FaultControl, system: str) -> None:
        self._app = app
        self._control = control
        self._system = system

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, with its fault if it has one."""
        if scope["type"] != "http" or scope["path"].lower() == CONTROL_PATH:
            await self._app(scope, receive, send)
            return
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        injected = self._control.inject(scope["method"], scope["path"], token if scheme.lower() == "bearer" else None)
        if injected is None:
            await self._app(scope, receive, send)
            return
        rule, injection = injected
        log.info("fault: %s %s meets %s", injection.method, injection.path, injection.label)
        await self._carry_out(rule, _recording(self._app, injection), scope, receive, send)

    async def _carry_out(self, rule: RequestRule, work: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        match rule:
            case Reset():
                # A client that is still sending may take the reset for an orderly end.
                await _read_body(receive)
                await reset_connection(scope, receive)
            case Status():
                await error_response(rule, self._system)(scope, receive, send)
            case EarlyTokenExpiry():
                await JSONResponse(error_body(rule.message, None), 401)(scope, receive, send)
            case LoseAnswer():
                await work(scope, receive, _discard)
                await close_connection(scope, receive)
            case Timeout408():
                await work(scope, receive, _discard)
                timeout = CommandTimeout()
                await JSONResponse(error_body(timeout.message, None), timeout.status)(scope, receive, send)
            case Delay(before="work"):
                await sleep(rule.seconds)
                await work(scope, receive, send)
            case Delay():
                await work(scope, receive, _delayed(send, rule.seconds))
            case Duplicate():
                await _duplicate(work, scope, receive, send)
            case SlowBody():
                await work(scope, receive, _slow(scope, send, rule.rate))
            case CutBody():
                await work(scope, receive, _cut(send, rule.size))
                await close_connection(scope, receive)


def _recording(app: ASGIApp, injection: Injection) -> ASGIApp:
    """Wrap the application: the statuses of its answers are recorded, and it never raises."""

    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                injection.work.append(message["status"])
            await send(message)

        try:
            await app(scope, receive, send_on)
        except Exception:
            # The application has answered 500 by now. Uvicorn would answer once more where the answer was discarded.
            log.exception("%s %s failed", injection.method, injection.path)

    return work


def _delayed(send: Send, seconds: float) -> Send:
    async def send_late(message: Message) -> None:
        if message["type"] == "http.response.start":
            await sleep(seconds)
        await send(message)

    return send_late


def _slow(scope: Scope, send: Send, rate: int) -> Send:
    """Send bodies in chunks, each after the time that it takes at this rate."""
    size = max(math.floor(rate * _CHUNK_INTERVAL), 1)

    async def send_chunks(message: Message) -> None:
        body = message.get("body", b"")
        for start in range(0, len(body), size):
            # The client may have disconnected.
            if is_closed(scope):
                return
            chunk = body[start : start + size]
            await sleep(len(chunk) / rate)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({**message, "body": b""} if body else message)

    return send_chunks


def _cut(send: Send, size: int | None) -> Send:
    """Send `size` bytes of a body, but never all of it. An answer without a body is not sent at all."""
    head: Message | None = None
    left = 0

    async def send_part(message: Message) -> None:
        nonlocal head, left
        if message["type"] == "http.response.start":
            length = int(Headers(raw=message["headers"]).get("content-length", "0"))
            left = length // 2 if size is None else min(size, length - 1)
            head = message if length else None
            return
        if head is not None:
            await send(head)
            head = None
        part = message.get("body", b"")[: max(left, 0)]
        left -= len(part)
        if part:
            await send({"type": "http.response.body", "body": part, "more_body": True})

    return send_part


async def _read_body(receive: Receive) -> bytes | None:
    """Read a request's body; return None if the client disconnected before it was complete."""
    blocks = []
    while (message := await receive())["type"] == "http.request":
        blocks.append(message["body"])
        if not message["more_body"]:
            return b"".join(blocks)
    return None


async def _duplicate(work: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Do a request's work twice, with the same body."""
    body = await _read_body(receive)
    if body is None:
        return

    def receive_body() -> Receive:
        received = False

        async def receive_once() -> Message:
            nonlocal received
            if received:
                return await receive()
            received = True
            return {"type": "http.request", "body": body, "more_body": False}

        return receive_once

    for send_answer in (_discard, send):
        await work({**scope, "state": dict(scope["state"])}, receive_body(), send_answer)
