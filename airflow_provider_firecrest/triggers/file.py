"""The trigger that waits for a file."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.triggers.base import FirecRESTTrigger

if TYPE_CHECKING:
    from firecrest_core.api.client import System
    from firecrest_core.connection import Connection


class FirecRESTFileTrigger(FirecRESTTrigger):
    """Waits until a file or directory exists on a system.

    :param system: the system, or ``None`` for the connection's default system
    :param path: the path there, as the task gives it, also with wildcards
    """

    def __init__(self, *, system: str | None, path: str, **common: Any) -> None:
        super().__init__(**common)
        self.system = system
        self.path = path

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and the constructor's arguments."""
        path, arguments = super().serialize()
        return path, arguments | {"system": self.system, "path": self.path}

    async def wait(self, connection: Connection) -> dict[str, Any]:
        """Ask again and again, also while the server is away.

        :param connection: where to ask, and as whom
        """
        from firecrest_core import paths
        from firecrest_core.api.backoff import OUTAGES

        warned = False
        async with self.client_type(connection) as client:
            system = client.system(self.system)
            while True:
                try:
                    if await exists(system, await paths.expand(system, self.path)):
                        return {}
                    warned = False
                # The task's worker has reached the server as this user, so a refusal is an outage, too.
                except OUTAGES as error:
                    if not warned:
                        self.log.warning("Still waiting for %s. %s", self.path, error)
                    warned = True
                await asyncio.sleep(self.poll_interval)


async def exists(system: System, path: str) -> bool:
    """Tell whether something is at a path now.

    :param system: the system
    :param path: absolute path, also with wildcards
    """
    from firecrest_core.errors import RemotePathNotFound
    from firecrest_core.transfer import is_pattern, match

    if is_pattern(path):
        return bool(await match(system, path))
    try:
        await system.list_files(path)
    except RemotePathNotFound:
        return False
    return True
