"""Ends this process's jobs when a person ends their flow run, in whatever thread or flow they were submitted.

Prefect interrupts the main thread alone: what was begun with ``.submit()`` goes on, and so does a script that no runner
started. So while jobs of this process may be alive, it asks for the states of their flow runs, with one request for all
of them. When the process ends it asks once more: a runner gives it some seconds for that. A process that is killed, or
stopped with its machine, asks nothing; what it leaves is found by :mod:`prefect_firecrest.reconcile`.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from firecrest_core.errors import FirecRESTError
from prefect_firecrest import ledger, wish
from prefect_firecrest.background import run
from prefect_firecrest.ending import end
from prefect_firecrest.ledger import Entry

if TYPE_CHECKING:
    from firecrest_core.connection import Connection
    from firecrest_core.job import Job

log = logging.getLogger(__name__)

INTERVAL = 3.0
"""Seconds between two questions for the flow runs' states."""

# A runner kills after thirty seconds; the reconciler does what is left then.
_AT_EXIT = 25.0
_MOST_HELD = 5000


@dataclass
class _Held:
    """One call's jobs."""

    flow_runs: tuple[UUID, ...]
    connection: Connection
    entry: Entry
    alive: bool = True


@dataclass
class _Guard:
    held: dict[tuple[str, int] | str, _Held] = field(default_factory=dict)
    notes: defaultdict[tuple[UUID, ...], set[UUID]] = field(default_factory=lambda: defaultdict(set))
    looking: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


# Used in the background's event loop alone.
_guard = _Guard()
_at_exit = False


async def hold(flow_runs: tuple[UUID, ...], connection: Connection, entry: Entry) -> None:
    """Write down what is about to be submitted, and keep an eye on its flow run.

    :param flow_runs: the flow run and those that it runs in, the innermost first; of none, nothing is held
    """
    global _at_exit
    if not flow_runs:
        return
    if len(_guard.held) > _MOST_HELD:
        _guard.held = {key: held for key, held in _guard.held.items() if held.alive}
    _guard.notes[flow_runs].add(await ledger.write(flow_runs, entry))
    _guard.held[_key(entry)] = _Held(flow_runs, connection, entry)
    _look_from_now_on()
    if not _at_exit:
        _at_exit = True
        # Python's own way comes after the last moment at which names of hosts can be looked up.
        getattr(threading, "_register_atexit", atexit.register)(_leave)


def is_alive(job: Job) -> bool:
    """Whether a job of this process has not been seen to end."""
    held = _guard.held.get(_job_key(job))
    return held is not None and held.alive


def alive(job: Job) -> None:
    """Hear that somebody waits for a job, or for one in its place."""
    if held := _guard.held.get(_job_key(job)):
        held.alive = True
        _look_from_now_on()


def ended(job: Job) -> None:
    """Hear that a job has ended."""
    if held := _guard.held.get(_job_key(job)):
        held.alive = False


def _key(entry: Entry) -> tuple[str, int] | str:
    return (entry.identity, entry.epoch) if entry.identity is not None else f"{entry.system} {entry.job_id}"


def _job_key(job: Job) -> tuple[str, int] | str:
    return (job.key.identity, job.key.epoch) if job.key is not None else f"{job.system} {job.job_id}"


def _look_from_now_on() -> None:
    if _guard.looking is None or _guard.looking.done():
        _guard.looking = asyncio.create_task(_look_again_and_again())


async def _look_again_and_again() -> None:
    while any(held.alive for held in _guard.held.values()):
        await asyncio.sleep(INTERVAL)
        try:
            await look()
        except Exception as error:  # Prefect's API may be away; its own client tells of that
            log.warning("Cannot see whether the jobs of this process are still wanted: %s", error)


async def look() -> None:
    """End the jobs of flow runs that are no longer wanted."""
    async with _guard.lock:
        await _look()


async def _look() -> None:
    from prefect.client.orchestration import get_client

    held = [held for held in _guard.held.values() if held.alive]
    if not held:
        return
    async with get_client() as client:
        seen = await wish.read_flow_runs(client, [flow_run for one in held for flow_run in one.flow_runs])
        for flow_runs in dict.fromkeys(one.flow_runs for one in held):
            theirs = [one for one in held if one.flow_runs == flow_runs]
            if why := wish.unwanted(flow_runs, seen):
                if await _end(theirs, why):
                    await ledger.forget(client, _guard.notes.pop(flow_runs, ()))
            elif wish.is_over(flow_runs, seen):
                for one in theirs:
                    one.alive = False


async def _end(held: list[_Held], why: str) -> bool:
    by_connection: defaultdict[Connection, list[_Held]] = defaultdict(list)
    for one in held:
        by_connection[one.connection].append(one)
    done = True
    for connection, some in by_connection.items():
        try:
            await end(connection, [one.entry for one in some])
        except FirecRESTError as error:
            log.error("The flow run %s, but not all of its jobs could be cancelled: %s", why, error)
            done = False
        else:
            log.info("The flow run %s, and so were its jobs.", why)
            for one in some:
                one.alive = False
    return done


def _leave() -> None:
    """Look once more when the process ends, and let a look that is under way come to its end."""
    if not _guard.lock.locked() and not any(held.alive for held in _guard.held.values()):
        return
    try:
        run(_look_at_exit())
    except Exception as error:
        log.warning("Cannot see whether the jobs of this process are still wanted: %s", error)


async def _look_at_exit() -> None:
    async with asyncio.timeout(_AT_EXIT):
        await look()


def _forget() -> None:
    """Begin anew in a process that was forked: its parent's jobs are its parent's."""
    global _guard
    _guard = _Guard()


os.register_at_fork(after_in_child=_forget)
