"""Processes that start in a moment, to be killed: forks of one that has imported everything."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from typing import Any

_context = get_context("forkserver")
_context.set_forkserver_preload(["tests.campaign_kills.worker", "firecrest_local.app"])
# multiprocessing keeps one list of all children, which several threads use here.
_lock = threading.Lock()


def spawn(target: Callable[[Any], None], argument: Any) -> ForkServerProcess:
    """Start a process.

    :param target: the function that it runs
    :param argument: its argument, which is pickled
    """
    with _lock:
        process = _context.Process(target=target, args=(argument,), daemon=True)
        process.start()
    return process


def ends_within(process: ForkServerProcess, seconds: float) -> bool:
    """Wait for the end of a process.

    :returns: ``False`` if it still runs after this time
    """
    deadline = time.monotonic() + seconds
    while True:
        with _lock:
            if not process.is_alive():
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.03)


def send_signal(process: ForkServerProcess, number: signal.Signals) -> None:
    """Send a signal to a process, unless it has ended."""
    with _lock, contextlib.suppress(ProcessLookupError):
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, number)
