"""The one bridge from synchronous code to the asynchronous core."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to its end on an event loop of its own and return its result.

    Works, too, where this thread's loop is already running (a notebook, an asynchronous task that calls
    synchronous code): the coroutine then gets a thread of its own. Clients must be made inside the
    coroutine, since a client belongs to one event loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="firecrest") as thread:
        return thread.submit(copy_context().run, asyncio.run, coroutine).result()
