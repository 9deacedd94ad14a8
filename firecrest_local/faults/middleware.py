"""Carries faults out, between the connection and the application."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus

from anyio import sleep
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firecrest_local.faults.connections import close_connection, is_closed, reset_connection, write
from firecrest_local.faults.control import CONTROL_PATH, FaultControl, Injection
from firecrest_local.faults.delivery import CutBody, Delay, Duplicate, LoseAnswer, Reset, SlowBody, Trickle
from firecrest_local.faults.plan import RequestRule
from firecrest_local.faults.replacement import Answer, Replacement, Rewriting
from firecrest_local.faults.request import RequestHead

log = logging.getLogger(__name__)

#: Seconds between two chunks of a slow body.
_CHUNK_INTERVAL = 0.05


async def _discard(message: Message) -> None:
    """Send nothing."""


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
        injected = self._control.inject(RequestHead.of(scope))
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
            case Replacement():
                await self._replace(rule, work, scope, receive, send)
            case Rewriting():
                answer = await _captured(work, scope, receive)
                await _send_answer(rule.rewrite(answer, self._system), send)
            case Trickle():
                await _trickle(await _captured(work, scope, receive), scope, receive, rule.interval)
            case LoseAnswer():
                await work(scope, receive, _discard)
                await close_connection(scope, receive)
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

    async def _replace(self, rule: Replacement, work: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Send another answer, before or after the work."""
        body = b""
        given = receive
        if rule.reads_body:
            read = await _read_body(receive)
            if read is None:
                return
            body, given = read, _replayed(read, receive)
        if rule.done:
            await work(scope, given, _discard)
        await rule.response(RequestHead.of(scope), body, self._system)(scope, receive, send)


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

    for send_answer in (_discard, send):
        await work({**scope, "state": dict(scope["state"])}, _replayed(body, receive), send_answer)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give a body that was already read to an application."""
    received = False

    async def receive_once() -> Message:
        nonlocal received
        if received:
            return await receive()
        received = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_once


async def _captured(work: ASGIApp, scope: Scope, receive: Receive) -> Answer:
    """Do a request's work and keep its answer."""
    status, headers, blocks = 500, [], []

    async def keep(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message["headers"])
        else:
            blocks.append(message.get("body", b""))

    await work(scope, receive, keep)
    return Answer(status, headers, b"".join(blocks))


def _head(answer: Answer) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers with the length of its body."""
    rest = [(name, value) for name, value in answer.headers if name.lower() != b"content-length"]
    return [*rest, (b"content-length", str(len(answer.body)).encode())] if answer.body else rest


async def _send_answer(answer: Answer, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": _head(answer)})
    await send({"type": "http.response.body", "body": answer.body})


async def _trickle(answer: Answer, scope: Scope, receive: Receive, interval: float) -> None:
    """Send an answer byte by byte, which uvicorn can't do with its head."""
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}".encode()]
    lines += [name + b": " + value for name, value in [*_head(answer), (b"connection", b"close")]]
    text = b"\r\n".join([*lines, b"", answer.body])
    for position in range(len(text)):
        if is_closed(scope):
            break
        write(scope, text[position : position + 1])
        await sleep(interval)
    await close_connection(scope, receive)
