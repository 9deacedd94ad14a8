"""The sensor that waits for a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.sensors.base import FirecRESTBaseSensor
from airflow_provider_firecrest.triggers.file import FirecRESTFileTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class FirecRESTFileSensor(FirecRESTBaseSensor):
    """Wait until a file or directory exists on a system, or one that a pattern such as ``results/**/*.json`` matches.

    The file may still be written to. A program that writes to it slowly should rename it to its final name at the end.

    :param path: path on the system: absolute, from ``~`` or a variable such as ``$SCRATCH``, or relative to the
        connection's base directory, also with wildcards
    """

    template_fields: Sequence[str] = (*FirecRESTBaseSensor.template_fields, "path")

    def __init__(self, *, path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path
        self._expanded: str | None = None

    def execute(self, context: Context) -> Any:
        """Wait, unless it is there.

        :param context: the task's
        """
        if not self.deferrable:
            return super().execute(context)
        from firecrest_core.paths import escaped

        if self.poke(context):
            return None
        trigger = FirecRESTFileTrigger(
            system=self.system,
            path=escaped(self._expanded) if self._expanded else self.path,
            firecrest_conn_id=self.firecrest_conn_id,
            poll_interval=self.poll_interval,
        )
        return self.wait(context, trigger)

    @property
    def awaited(self) -> str:
        """The path."""
        return self.path

    def poke(self, context: Context) -> bool:
        """Ask once. A server that does not answer is asked again.

        :param context: the task's
        """
        from firecrest_core.errors import TransientError

        try:
            return self.hook.run(self._exists())
        except TransientError as error:
            self.log.warning("Still waiting for %s. %s", self.path, error)
            return False

    async def _exists(self) -> bool:
        from firecrest_core import paths
        from firecrest_core.file_wait import exists

        async with self.hook.client() as client:
            system = client.system(self.system)
            if self._expanded is None:
                self._expanded = await paths.expand(system, self.path)
            return await exists(system, self._expanded)

    def finish(self, event: dict[str, Any]) -> None:
        """Log that it exists.

        :param event: the trigger's
        """
        self.log.info("%s exists.", self.path)
