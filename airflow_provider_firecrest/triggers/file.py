"""The trigger that waits for a file."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.triggers.base import FirecRESTTrigger

if TYPE_CHECKING:
    from firecrest_core.client import FirecRESTClient
    from firecrest_core.connection import Connection


class FirecRESTFileTrigger(FirecRESTTrigger):
    """Waits until a file or directory exists on a system.

    :param system: the system, or ``None`` for the connection's default system
    :param path: absolute path there
    """

    def __init__(self, *, system: str | None, path: str, **common: Any) -> None:
        super().__init__(**common)
        self.system = system
        self.path = path

    def serialize(self) -> tuple[str, dict[str, Any]]:
        path, arguments = super().serialize()
        return path, arguments | {"system": self.system, "path": self.path}

    async def wait(self, connection: Connection) -> dict[str, Any]:
        """Ask again and again, through every outage."""
        from firecrest_core import errors

        # The task's worker has reached the server as this user, so that these are outages, too.
        outages = (errors.TransientError, errors.AuthenticationFailed, errors.HostNotFound, errors.TLSFailed)
        system = connection.system_or_default(self.system)
        told = False
        async with self.client_type(connection) as client:
            while True:
                try:
                    if await exists(client, system, self.path):
                        return {}
                    told = False
                except outages as error:
                    if not told:
                        self.log.warning("Still waiting for %s. %s", self.path, error)
                    told = True
                await asyncio.sleep(self.poll_interval)


async def exists(client: FirecRESTClient, system: str, path: str) -> bool:
    """Tell whether something is at ``path``, at this moment."""
    from firecrest_core.errors import RemotePathNotFound

    try:
        await client.ls(system, path)
    except RemotePathNotFound:
        return False
    return True
