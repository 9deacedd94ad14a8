"""What faults need below HTTP: connections that can be broken, and a port that can be closed."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct

import uvicorn
from starlette.types import Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from firecrest_local.access_log import Quiet
from firecrest_local.faults.control import FaultControl, Injection
from firecrest_local.listener import listen

log = logging.getLogger(__name__)
_TRANSPORT = "firecrest_local.transport"


class OpenProtocol(Quiet, H11Protocol):
    """Tells the application which connection a request came by, in the state of its scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the connection."""
        self.app_state = {**self.app_state, _TRANSPORT: transport}
        super().connection_made(transport)


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport = scope["state"][_TRANSPORT]
    return transport


async def hang_up(scope: Scope, receive: Receive) -> None:
    """Close a request's connection after what was sent of its answer."""
    _transport(scope).close()
    await _gone(receive)


async def reset(scope: Scope, receive: Receive) -> None:
    """Reset a request's connection; what was sent of its answer may be lost."""
    transport = _transport(scope)
    # To linger for no time makes the kernel send RST instead of FIN.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _gone(receive)


def broken(scope: Scope) -> bool:
    """Whether a request's connection is closed."""
    return _transport(scope).is_closing()


async def _gone(receive: Receive) -> None:
    # An application that returns before uvicorn has seen the end is answered for, with a 500 in the log.
    while (await receive())["type"] != "http.disconnect":
        pass


class FaultyServer(uvicorn.Server):
    """Closes its port, and the connections that exist, while the fault plan refuses connections.

    Parameters:
        config: with `OpenProtocol`.
        control: the faults.
        port: the port.
    """

    def __init__(self, config: uvicorn.Config, control: FaultControl, port: int) -> None:
        super().__init__(config)
        self._control = control
        self._port = port
        self._closed = False

    async def on_tick(self, counter: int) -> bool:
        """Look at the plan, ten times a second."""
        if self._control.refusing() != self._closed:
            if self._closed:
                await self._open()
            else:
                self._close()
        return await super().on_tick(counter)

    def _close(self) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.close()
        self._closed = True
        self._control.write_down(Injection("refuse", "", ""))
        log.info("fault: port %s is closed", self._port)

    async def _open(self) -> None:
        try:
            listener = listen(self._port)
        except OSError as error:
            log.warning("port %s cannot be opened again yet: %s", self._port, error)
            return
        await self.startup([listener])
        self._closed = False
        log.info("port %s is open again", self._port)
