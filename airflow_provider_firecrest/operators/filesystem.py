"""Operators that create and remove directories and files on a system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.operators.base import FirecRESTBaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class FirecRESTMakeDirectoryOperator(FirecRESTBaseOperator):
    """Create a directory on a system, and return its absolute path.

    :param path: path on the system: absolute, from ``~`` or a variable such as ``$SCRATCH``, or relative to the
        connection's base directory
    :param parents: create the directories above it, too. If the directory exists already, that is no error then
    """

    template_fields: Sequence[str] = (*FirecRESTBaseOperator.template_fields, "path")

    def __init__(self, *, path: str, parents: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.parents = parents

    def execute(self, context: Context) -> str:
        """Create the directory.

        :param context: the task's
        """
        path = self.hook.run(self._make_directory())
        self.log.info("%s exists.", path)
        return path

    async def _make_directory(self) -> str:
        from firecrest_core import paths

        async with self.hook.client() as client:
            system = client.system(self.system)
            path = await paths.expand(system, self.path)
            await system.make_directory(path, parents=self.parents)
        return path


class FirecRESTDeleteOperator(FirecRESTBaseOperator):
    """Remove a file or a directory tree on a system.

    :param path: path on the system: absolute, from ``~`` or a variable such as ``$SCRATCH``, or relative to the
        connection's base directory
    :param missing_ok: if nothing is there, that is no error
    """

    template_fields: Sequence[str] = (*FirecRESTBaseOperator.template_fields, "path")

    def __init__(self, *, path: str, missing_ok: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.missing_ok = missing_ok

    def execute(self, context: Context) -> None:
        """Remove what is there.

        :param context: the task's
        """
        self.hook.run(self._remove())
        self.log.info("%s is gone.", self.path)

    async def _remove(self) -> None:
        from firecrest_core import paths

        async with self.hook.client() as client:
            system = client.system(self.system)
            await system.remove(await paths.expand(system, self.path), missing_ok=self.missing_ok)
