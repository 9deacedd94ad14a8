"""Breaks the connection of a request, which the application cannot do by itself."""

from __future__ import annotations

import asyncio
import socket
import struct

from starlette.types import Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from firecrest_local.access_log import NoAccessLog

_TRANSPORT = "firecrest_local.transport"


class TransportProtocol(NoAccessLog, H11Protocol):
    """Puts the transport of a request's connection into the state of the request's scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport."""
        self.app_state = {**self.app_state, _TRANSPORT: transport}
        super().connection_made(transport)


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport = scope["state"][_TRANSPORT]
    return transport


async def close_connection(scope: Scope, receive: Receive) -> None:
    """Close a request's connection after what was sent of its answer."""
    _transport(scope).close()
    await _disconnected(receive)


async def reset_connection(scope: Scope, receive: Receive) -> None:
    """Reset a request's connection. What was sent of its answer may be lost."""
    transport = _transport(scope)
    # A linger time of zero makes the kernel send RST instead of FIN.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _disconnected(receive)


def write(scope: Scope, data: bytes) -> None:
    """Write to a request's connection, past the server's own protocol."""
    _transport(scope).write(data)


def is_closed(scope: Scope) -> bool:
    """Return whether a request's connection is closed."""
    return _transport(scope).is_closing()


async def _disconnected(receive: Receive) -> None:
    # If the application returned before uvicorn had noticed the end, uvicorn would answer 500 and log an error.
    while (await receive())["type"] != "http.disconnect":
        pass
