"""What this process keeps while it works: one event loop in a thread of its own, and all that lives in it.

A client belongs to one event loop, and so does the watcher that waits for many jobs with one request. Prefect runs
tasks in as many threads and event loops as it likes, so none of those can be used. Every call, from a function or from
a coroutine, runs in the loop here, in the caller's context.

A process that is forked begins anew: its parent's thread does not exist there, and its parent's jobs are its parent's.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from firecrest_core.errors import FirecRESTError
from prefect_firecrest import run_log
from prefect_firecrest.executor import DaemonThreadExecutor

if TYPE_CHECKING:
    from firecrest_core.api.client import FirecRESTClient
    from firecrest_core.connection import Connection

# Prefect ends a task of a thread that takes too long by an exception, which reaches the thread between two waits alone.
_LONGEST_WAIT = 1.0

S = TypeVar("S")
T = TypeVar("T")


class Runtime:
    """The event loop's thread, the shared clients, and the state of the modules that work in it.

    There is one, :data:`runtime`.
    """

    def __init__(self) -> None:
        self.reset()

    def __reduce__(self) -> str:
        # Task runners pickle a flow's function with the names that it uses; in another process this is that process's.
        return "runtime"

    def reset(self) -> None:
        """Forget everything, as in a process that was forked."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._states: dict[type[Any], Any] = {}
        # Used in the loop alone: for each connection the client, and how many use it.
        self._clients: dict[tuple[Connection, type[FirecRESTClient]], tuple[FirecRESTClient, int]] = {}

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` to its end and return its result. An interrupt of the caller cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running_loop())
        try:
            while not future.done():
                concurrent.futures.wait([future], _LONGEST_WAIT)
            return future.result()
        except FirecRESTError as error:
            # The traceback holds asyncio's and httpx's frames, which tell nothing to the reader of a run's log. A cause
            # was given on purpose: what a function has raised on its node.
            raise error.with_traceback(None) from error.__cause__
        finally:
            future.cancel()

    async def arun(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Do what :meth:`run` does, from another event loop, which goes on meanwhile."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running_loop())
        try:
            return await asyncio.wrap_future(future)
        except FirecRESTError as error:
            raise error.with_traceback(None) from error.__cause__

    @asynccontextmanager
    async def client(self, connection: Connection, kind: type[FirecRESTClient]) -> AsyncIterator[FirecRESTClient]:
        """Use this process's client for a connection; the last of its users closes it.

        It keeps the number of requests in flight within the connection's limit, however many tasks are at work. Only
        for coroutines that :meth:`run` or :meth:`arun` run.

        :param kind: the class of the client
        """
        key = connection, kind
        client, users = self._clients.get(key) or (kind(connection), 0)
        self._clients[key] = client, users + 1
        try:
            yield client
        finally:
            _, users = self._clients[key]
            if users > 1:
                self._clients[key] = client, users - 1
            else:
                del self._clients[key]
                await client.aclose()

    def state(self, kind: type[S]) -> S:
        """Return this process's only object of a class, which is made when it is first asked for.

        Modules keep here what a forked process must not inherit.
        """
        with self._lock:
            if kind not in self._states:
                self._states[kind] = kind()
            found: S = self._states[kind]
            return found

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                run_log.install()
                self._loop = asyncio.new_event_loop()
                self._loop.set_default_executor(DaemonThreadExecutor())
                threading.Thread(target=self._loop.run_forever, name="firecrest", daemon=True).start()
            return self._loop


runtime = Runtime()
os.register_at_fork(after_in_child=runtime.reset)
