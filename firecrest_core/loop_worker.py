"""One worker for all of an event loop: it runs while somebody needs it, and ends with the last of them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextvars import Context
from typing import Self, cast
from weakref import WeakKeyDictionary

from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection

_Key = tuple[type, Connection, type[FirecRESTClient]]
_workers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, LoopWorker]] = WeakKeyDictionary()


class LoopWorker(ABC):
    """Does one thing for all of an event loop who use one connection.

    :param connection: what workers of one class differ in
    :param client_type: the class of its client, in which they differ, too
    """

    def __init__(self, connection: Connection, client_type: type[FirecRESTClient]) -> None:
        self._connection = connection
        self._client_type = client_type
        self._task: asyncio.Task[None] | None = None

    @property
    def _key(self) -> _Key:
        return type(self), self._connection, self._client_type

    @abstractmethod
    async def _run(self) -> None:
        """Work until cancelled."""

    def _shared(self) -> Self:
        """Return the running event loop's worker with the same key, which is this one if there was none."""
        return cast("Self", self._peers().setdefault(self._key, self))

    def _start(self) -> bool:
        """Work from now on. Returns ``False`` if it does already."""
        if self._task is not None and not self._task.done():
            return False
        self._peers().setdefault(self._key, self)
        # An empty context: what the worker itself logs does not belong to one task of those that need it.
        self._task = asyncio.create_task(self._run(), context=Context())
        return True

    async def _end(self, timeout: float | None = None) -> None:
        """Stop working: nobody needs it any more."""
        if self._task is None:
            return
        if self._peers().get(self._key) is self:
            del self._peers()[self._key]
        task, self._task = self._task, None
        task.cancel()
        await asyncio.wait({task}, timeout=timeout)  # so that its client is closed before the event loop

    @staticmethod
    def _peers() -> dict[_Key, LoopWorker]:
        return _workers.setdefault(asyncio.get_running_loop(), {})
