"""The trigger that waits for a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.triggers.base import FirecRESTTrigger

if TYPE_CHECKING:
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
        from firecrest_core.file_wait import wait_for_file

        async with self.client_type(connection) as client:
            await wait_for_file(
                client.system(self.system),
                self.path,
                poll_interval=self.poll_interval,
                reached=True,  # by the task's worker
                on_warning=self.log.warning,
            )
        return {}
