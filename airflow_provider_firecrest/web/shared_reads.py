"""What several viewers want to know of FirecREST is asked once for all of them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedReads(Generic[T]):
    """The newest answers, kept for a short time. It belongs to one event loop.

    :param seconds: how long an answer holds
    :param most: how many answers are kept
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._reads: OrderedDict[Hashable, tuple[float, asyncio.Task[T]]] = OrderedDict()

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """Return what a read returns, or has returned a moment ago. Errors are kept, too.

        :param key: what is read
        :param read: reads it
        """
        begun, task = self._reads.get(key, (0.0, None))
        if task is None or (task.done() and time.monotonic() - begun > self._seconds):
            task = asyncio.ensure_future(_run(read))
            self._reads[key] = time.monotonic(), task
            self._reads.move_to_end(key)
            while len(self._reads) > self._most:
                self._reads.popitem(last=False)
        # A viewer who leaves does not end the read of the others.
        return await asyncio.shield(task)


async def _run(read: Callable[[], Awaitable[T]]) -> T:
    return await read()
