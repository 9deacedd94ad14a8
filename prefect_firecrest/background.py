"""The bridge to the asynchronous core: one event loop in a thread of ours, for all that a process does.

A client belongs to one event loop, and so does the watcher that waits for many jobs with one request. Prefect runs
tasks in as many threads and event loops as it likes, so neither theirs nor the caller's will do: every call, from a
function or from a coroutine, is carried out here, in the caller's context.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from firecrest_core.errors import FirecRESTError

if TYPE_CHECKING:
    from firecrest_core.client import FirecRESTClient
    from firecrest_core.connection import Connection

T = TypeVar("T")

_starting = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
# Used in that loop alone: for each connection the client, and how many use it.
_clients: dict[Connection, tuple[FirecRESTClient, int]] = {}


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to its end and return its result. Who is interrupted meanwhile cancels it."""
    future = asyncio.run_coroutine_threadsafe(coroutine, _running())
    try:
        return future.result()
    except FirecRESTError as error:
        # What lies behind is asyncio's and httpx's stack, which says nothing to the reader of a run's log.
        raise error.with_traceback(None) from None
    finally:
        future.cancel()


async def arun(coroutine: Coroutine[Any, Any, T]) -> T:
    """Do what :func:`run` does, from another event loop, which goes on meanwhile."""
    future = asyncio.run_coroutine_threadsafe(coroutine, _running())
    try:
        return await asyncio.wrap_future(future)
    except FirecRESTError as error:
        raise error.with_traceback(None) from None


@asynccontextmanager
async def shared_client(connection: Connection) -> AsyncIterator[FirecRESTClient]:
    """Use this process's client for a connection, with all who use it now; the last one closes it.

    It keeps the number of requests in flight within the connection's limit, however many tasks are at work. Only for
    coroutines that :func:`run` or :func:`arun` carry out.
    """
    from firecrest_core.client import FirecRESTClient

    client, users = _clients.get(connection) or (FirecRESTClient(connection), 0)
    _clients[connection] = client, users + 1
    try:
        yield client
    finally:
        _, users = _clients[connection]
        if users > 1:
            _clients[connection] = client, users - 1
        else:
            del _clients[connection]
            await client.close_session()


def _running() -> asyncio.AbstractEventLoop:
    global _loop
    with _starting:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="firecrest", daemon=True).start()
        return _loop


def _forget() -> None:
    """Begin anew in a process that was forked: its parent's thread is not there."""
    global _loop, _starting
    _loop, _starting = None, threading.Lock()
    _clients.clear()


os.register_at_fork(after_in_child=_forget)
