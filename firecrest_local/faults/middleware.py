"""Carries faults out: what stands between the connection and the application."""

from __future__ import annotations

import logging
import math

from anyio import sleep
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firecrest_local.errors import CommandTimeout, error_body
from firecrest_local.faults.control import PATH, FaultControl, Injection
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
from firecrest_local.faults.server import broken, hang_up, reset

log = logging.getLogger(__name__)

#: What the real server says; of 503, the system's name is left to fill in.
_WORDS = {
    401: "Access token is invalid.",
    408: "Command execution timeout limit exceeded.",
    424: "Unable to open a new SSH channel.",
    429: "API rate limit exceeded",
    503: "The scheduler service for the requested system ({system}) is unhealthy.",
}
#: What a proxy says in front of it.
_PAGES = {502: "502 Bad Gateway", 504: "504 Gateway Time-out"}
#: Seconds between two drops of a body that trickles.
_DROP = 0.05


async def _nowhere(message: Message) -> None:
    """Send nothing."""


def refusal(rule: Status, system: str) -> Response:
    """The answer that a rule wants."""
    retry_after = 1 if rule.status == 429 and rule.retry_after is None else rule.retry_after
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if rule.message is None and rule.status in _PAGES:
        title = _PAGES[rule.status]
        page = f"<html>\n<head><title>{title}</title></head>\n<body><center><h1>{title}</h1></center></body>\n</html>\n"
        return HTMLResponse(page, rule.status, headers)
    words = rule.message or _WORDS.get(rule.status, "Internal Server Error").format(system=system)
    return JSONResponse(error_body(words, None), rule.status, headers)


class Faulty:
    """An application whose requests meet the faults of a plan.

    Parameters:
        app: the application, sound.
        control: the faults.
        system: the system's name.
    """

    def __init__(self, app: ASGIApp, control: FaultControl, system: str) -> None:
        self._app = app
        self._control = control
        self._system = system

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request meet its fault, if it has one."""
        if scope["type"] != "http" or scope["path"].lower() == PATH:
            await self._app(scope, receive, send)
            return
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        struck = self._control.strike(scope["method"], scope["path"], token if scheme.lower() == "bearer" else None)
        if struck is None:
            await self._app(scope, receive, send)
            return
        rule, injection = struck
        log.info("fault: %s %s meets %s", injection.method, injection.path, injection.label)
        await self._carry_out(rule, _noting(self._app, injection), scope, receive, send)

    async def _carry_out(self, rule: RequestRule, work: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        match rule:
            case Reset():
                # A client that is still sending may take the reset for an orderly end.
                await _read(receive)
                await reset(scope, receive)
            case Status():
                await refusal(rule, self._system)(scope, receive, send)
            case EarlyTokenExpiry():
                await JSONResponse(error_body(rule.message, None), 401)(scope, receive, send)
            case LoseAnswer():
                await work(scope, receive, _nowhere)
                await hang_up(scope, receive)
            case Timeout408():
                await work(scope, receive, _nowhere)
                late = CommandTimeout()
                await JSONResponse(error_body(late.message, None), late.status)(scope, receive, send)
            case Delay(before="work"):
                await sleep(rule.seconds)
                await work(scope, receive, send)
            case Delay():
                await work(scope, receive, _late(send, rule.seconds))
            case Duplicate():
                await _twice(work, scope, receive, send)
            case SlowBody():
                await work(scope, receive, _trickling(scope, send, rule.rate))
            case CutBody():
                await work(scope, receive, _cut(send, rule.size))
                await hang_up(scope, receive)


def _noting(app: ASGIApp, injection: Injection) -> ASGIApp:
    """The application, with the statuses that it answers written down; it fails with a status, never otherwise."""

    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                injection.work.append(message["status"])
            await send(message)

        try:
            await app(scope, receive, note)
        except Exception:
            # It has answered 500 by now; uvicorn would do so again where the answer was kept back.
            log.exception("%s %s failed", injection.method, injection.path)

    return work


def _late(send: Send, seconds: float) -> Send:
    async def send_late(message: Message) -> None:
        if message["type"] == "http.response.start":
            await sleep(seconds)
        await send(message)

    return send_late


def _trickling(scope: Scope, send: Send, rate: int) -> Send:
    """Send bodies in drops, each after the time that it takes."""
    size = max(math.floor(rate * _DROP), 1)

    async def trickle(message: Message) -> None:
        body = message.get("body", b"")
        for start in range(0, len(body), size):
            # Who has gone needs no more drops.
            if broken(scope):
                return
            drop = body[start : start + size]
            await sleep(len(drop) / rate)
            await send({"type": "http.response.body", "body": drop, "more_body": True})
        await send({**message, "body": b""} if body else message)

    return trickle


def _cut(send: Send, size: int | None) -> Send:
    """Send so many bytes of a body, but never all of it; of an answer without a body, nothing."""
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


async def _read(receive: Receive) -> bytes | None:
    """A request's body; None if its client went before it was whole."""
    blocks = []
    while (message := await receive())["type"] == "http.request":
        blocks.append(message["body"])
        if not message["more_body"]:
            return b"".join(blocks)
    return None


async def _twice(work: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Do a request's work twice, with the same body."""
    body = await _read(receive)
    if body is None:
        return

    def again() -> Receive:
        given = False

        async def receive_again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return receive_again

    for answer in (_nowhere, send):
        await work({**scope, "state": dict(scope["state"])}, again(), answer)
