"""Threads for the event loop's blocking calls, which still take work while the process exits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Call = tuple["Future[Any]", Callable[[], Any]]


class DaemonThreadExecutor(ThreadPoolExecutor):
    """Run calls in daemon threads until the process is gone.

    The threads of :class:`~concurrent.futures.ThreadPoolExecutor` refuse work as soon as the interpreter begins to shut
    down, before any ``atexit`` handler runs. An event loop looks up the names of hosts in its executor, so from then on
    it could connect to no host that is given by name. Since Python 3.12 no thread can be started by then either, so one
    is started at once.

    It is a ``ThreadPoolExecutor`` because :meth:`asyncio.loop.set_default_executor` takes nothing else; none of that
    class's threads is ever started.

    :param most: threads at the most
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most or min(32, (os.cpu_count() or 1) + 4)
        super().__init__(max_workers=self._most)
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._counting = threading.Lock()
        self._threads_running = 0
        self._unfinished = 0
        self._start_thread()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn`` in a thread that is free, or in a new one."""
        future: Future[T] = Future()
        with self._counting:
            self._unfinished += 1
            self._calls.put((future, lambda: fn(*args, **kwargs)))
            if self._threads_running < min(self._unfinished, self._most):
                with suppress(RuntimeError):  # the interpreter shuts down: the threads that are there do the work
                    self._start_thread()
        return future

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, name="firecrest-blocking", daemon=True).start()
        self._threads_running += 1

    def _work(self) -> None:
        while True:
            future, call = self._calls.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:
                    future.set_exception(error)
            del future, call  # else the last result lives as long as the thread waits
            with self._counting:
                self._unfinished -= 1
