"""How synchronous code calls the asynchronous core."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to its end on an event loop of its own and return its result.

    This also works if a loop is already running in this thread (in a notebook, or in an asynchronous task that calls
    synchronous code). The coroutine then runs in a thread of its own. Create clients inside the coroutine, because a
    client belongs to one event loop.

    :param coroutine: what to run
    :returns: its result
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="firecrest") as thread:
        return thread.submit(copy_context().run, asyncio.run, coroutine).result()
