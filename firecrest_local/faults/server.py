"""A server that can close its port."""

from __future__ import annotations

import logging

import uvicorn

from firecrest_local.faults.control import FaultControl, Injection
from firecrest_local.listener import listen

log = logging.getLogger(__name__)


class FaultyServer(uvicorn.Server):
    """Closes its port and its open connections while the fault plan refuses connections.

    :param config: uvicorn's configuration, with `TransportProtocol`.
    :param control: the faults.
    :param port: the port.
    """

    def __init__(self, config: uvicorn.Config, control: FaultControl, port: int) -> None:
        super().__init__(config)
        self._control = control
        self._port = port
        self._closed = False

    async def on_tick(self, counter: int) -> bool:
        """Open or close the port as the plan says. Uvicorn calls this ten times a second."""
        if self._control.refuses_connections() != self._closed:
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
        self._control.record(Injection("refuse", "", ""))
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
