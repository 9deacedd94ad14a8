"""The event loop that a process keeps: forks, pickles, and blocking calls while the process exits."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from prefect_firecrest.executor import DaemonThreadExecutor
from prefect_firecrest.runtime import Runtime, runtime


class Kept:
    """State of some module."""


async def pid() -> int:
    return os.getpid()


def test_a_fork_begins_anew() -> None:
    kept = runtime.state(Kept)
    assert runtime.run(pid()) == os.getpid()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"new" if runtime.state(Kept) is not kept and runtime.run(pid()) == os.getpid() else b"old")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 3) == b"new"
    assert runtime.state(Kept) is kept


def test_a_pickle_is_the_runtime_of_the_process_that_reads_it() -> None:
    assert pickle.loads(pickle.dumps(runtime)) is runtime


async def test_an_interrupt_cancels_what_was_begun() -> None:
    ended = threading.Event()

    async def endless() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    waiting = asyncio.create_task(Runtime().arun(endless()))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.to_thread(ended.wait, 10)


def test_threads_are_started_as_they_are_needed() -> None:
    executor = DaemonThreadExecutor(3)
    together = threading.Barrier(3, timeout=10)
    for future in [executor.submit(together.wait) for _ in range(6)]:
        future.result()
    names = {executor.submit(threading.get_ident).result() for _ in range(50)}
    assert len(names) <= 3
    assert isinstance(executor, ThreadPoolExecutor)  # else asyncio does not take it


def test_what_a_call_raises_comes_back() -> None:
    def fail() -> None:
        raise ValueError("no")

    executor = DaemonThreadExecutor(1)
    with pytest.raises(ValueError, match="no"):
        executor.submit(fail).result()
    assert executor.submit(lambda: 7).result() == 7


def test_a_call_that_was_cancelled_does_not_run() -> None:
    executor = DaemonThreadExecutor(1)
    begun = executor.submit(time.sleep, 0.2)
    waiting = executor.submit(pytest.fail)
    assert waiting.cancel()
    begun.result()
    assert executor.submit(lambda: 7).result() == 7


def test_names_of_hosts_are_looked_up_while_the_process_exits() -> None:
    """By then, the threads of `concurrent.futures` refuse work, and none can be started since Python 3.12."""
    code = """
import asyncio, atexit
from prefect_firecrest.runtime import runtime

async def look_up():
    return await asyncio.get_running_loop().getaddrinfo("localhost", 80)

atexit.register(lambda: print("found", bool(runtime.run(look_up()))))
runtime.run(asyncio.sleep(0))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "found True", result.stderr
