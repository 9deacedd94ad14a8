"""Operators on the file systems of a system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.operators.base import FirecRESTBaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class FirecRESTMakeDirectoryOperator(FirecRESTBaseOperator):
    """Create a directory on a system, and return its path.

    :param path: absolute path
    :param parents: create the directories above it, too; then one that exists already is no error
    """

    template_fields: Sequence[str] = (*FirecRESTBaseOperator.template_fields, "path")

    def __init__(self, *, path: str, parents: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.parents = parents

    def execute(self, context: Context) -> str:
        self.hook.run(self._make())
        self.log.info("%s exists.", self.path)
        return self.path

    async def _make(self) -> None:
        async with self.hook.client() as client:
            system = client.connection.system_or_default(self.system)
            await client.make_directory(system, self.path, parents=self.parents)


class FirecRESTDeleteOperator(FirecRESTBaseOperator):
    """Remove a file or a directory tree on a system.

    :param path: absolute path
    :param missing_ok: whether it is no error when nothing is there
    """

    template_fields: Sequence[str] = (*FirecRESTBaseOperator.template_fields, "path")

    def __init__(self, *, path: str, missing_ok: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.missing_ok = missing_ok

    def execute(self, context: Context) -> None:
        self.hook.run(self._remove())
        self.log.info("%s is gone.", self.path)

    async def _remove(self) -> None:
        async with self.hook.client() as client:
            system = client.connection.system_or_default(self.system)
            await client.remove(system, self.path, missing_ok=self.missing_ok)
