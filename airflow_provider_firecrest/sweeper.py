"""Ends the jobs of tasks that have ended in Airflow, whatever process of theirs was there to hear of it.

Airflow calls nobody when a person ends a task between its deferral and the start of its trigger, while it waits in
the queue to be resumed or retried, or while its worker or the triggerer is down; and a cleared task may wait for hours
until its new try can end the old job. So a thread in each triggerer's main process compares, every few seconds, what
the tasks have written down (:mod:`airflow_provider_firecrest.ledger`) with the tasks' states. That takes one query,
and nothing else while nothing is to be ended. Where several triggerers run, each does so: cancelling is idempotent.

A task that is cleared while it runs is ``restarting`` until the scheduler hears of its worker's end; only then does
Airflow raise its ``max_tries``. Where scheduler or worker are lost meanwhile, Airflow forgets the clear, and the new
try would go on with the old job. So while that state lasts, the task's own notes are told of the clear.

Where workers keep task states in a backend of their own (``[workers] state_store_backend``), there is nothing to read.

A run that is deleted takes its tasks' entries with it; those that were seen before are ended then. Airflow lets a run
be deleted only after it has ended or a person has marked it, and of such a mark the API server's listeners are told:
so it sweeps, too, for the half minute after it, in case no triggerer runs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_firecrest import wish
from airflow_provider_firecrest.claim import RECORD
from airflow_provider_firecrest.ledger import KEY, Entry, end, told

log = logging.getLogger(__name__)

INTERVAL = 3.0
"""Seconds between two looks."""

_PAUSE_AFTER_FAILURE = 60.0

CLEARED = "was cleared"
DELETED = "was deleted with its run"


@dataclass(frozen=True)
class Seen:
    """An entry of a task, and what Airflow's database says of the task.

    :param row: where the entry is, and what it held when it was seen: databases give the numbers of rows again
    :param dag_run: number and name of the run
    :param why: its jobs have to end, ``None`` while they may go on
    """

    row: tuple[int, str]
    dag_run: tuple[int, str]
    task: str
    entry: Entry
    why: str | None


class Sweeper:
    """Looks at the tasks' jobs, and ends those that no task wants any more."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str], Seen] = {}
        self._remembered: dict[tuple[int, str], Seen] = {}
        self._deleted: dict[tuple[int, str], Seen] = {}
        self._endings: dict[tuple[int, str], asyncio.Task[None]] = {}
        self._not_before: dict[tuple[int, str], float] = {}

    async def run(self, until: Callable[[], float] = lambda: math.inf) -> None:
        """Look again and again.

        :param until: when to stop, on the monotonic clock; asked anew each time
        """
        while time.monotonic() < until():
            try:
                await self.sweep()
            except Exception:  # the database may be away; the triggerer tells of that itself
                log.warning("Cannot see which tasks have ended.", exc_info=True)
            await asyncio.sleep(INTERVAL)
        await self.settled()

    def remember(self, seen: list[Seen]) -> None:
        """Take over what another thread has seen, as if the latest look had shown it."""
        self._remembered |= {one.row: one for one in seen}

    async def sweep(self) -> None:
        """Look once, and begin to end what is to be ended."""
        seen = {one.row: one for one in await asyncio.to_thread(look)}
        remembered, self._remembered = self._remembered, {}
        lost = [one for row, one in (remembered | self._seen).items() if row not in seen]
        deleted = await asyncio.to_thread(_deleted, {one.dag_run for one in lost}) if lost else set()
        self._seen = seen
        for one in lost:
            if one.dag_run in deleted:
                self._deleted[one.row] = replace(one, why=DELETED)
        for one in (*seen.values(), *self._deleted.values()):
            if one.why and one.row not in self._endings and time.monotonic() >= self._not_before.get(one.row, 0.0):
                self._endings[one.row] = asyncio.create_task(self._end(one))
        self._not_before = {row: at for row, at in self._not_before.items() if row in seen or row in self._deleted}

    async def settled(self) -> None:
        """Wait until all has ended that was begun to be ended."""
        await asyncio.gather(*self._endings.values())

    async def _end(self, one: Seen) -> None:
        from airflow_provider_firecrest.hooks.client import client_type
        from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook

        jobs = told(one.entry.jobs)
        try:
            connection = await asyncio.to_thread(FirecRESTHook(one.entry.firecrest_conn_id).connection)
            async with client_type(one.entry.firecrest_conn_id)(connection) as client:
                for job in one.entry.jobs:
                    await end(client, job)
            log.info("%s %s: ended %s.", one.task, one.why, jobs)
            self._not_before[one.row] = math.inf
            # The new try of a cleared task must know what to wait for: a job that is cancelled may run on for a while.
            if one.why != CLEARED:
                await asyncio.to_thread(_erase, one)
            self._deleted.pop(one.row, None)
        except Exception as error:
            self._not_before[one.row] = time.monotonic() + _PAUSE_AFTER_FAILURE
            log.error("%s %s, but %s cannot be ended: %s", one.task, one.why, jobs, error)
        finally:
            del self._endings[one.row]


class _Thread(threading.Thread):
    """A thread that sweeps."""

    def __init__(self, until: Callable[[], float]) -> None:
        self.sweeper = Sweeper()
        super().__init__(target=lambda: asyncio.run(self.sweeper.run(until)), name="firecrest-sweeper", daemon=True)


def start() -> None:
    """Sweep in a thread of this process, as long as it lives."""
    _Thread(lambda: math.inf).start()


def follow() -> None:
    """Keep in mind what the tasks have written down now, and sweep in a thread of this process for half a minute."""
    global _follower, _follow_until
    # Not more than to read: who calls this may have changed the tasks, and not have committed it.
    seen = look(note_clears=False)
    with _lock:
        _follow_until = time.monotonic() + _FOLLOWED
        if _follower is None or not _follower.is_alive():
            _follower = _Thread(lambda: _follow_until)
            _follower.start()
        _follower.sweeper.remember(seen)


_FOLLOWED = 30.0
_lock = threading.Lock()
_follow_until = 0.0
_follower: _Thread | None = None


def look(*, note_clears: bool = True) -> list[Seen]:
    """Read all entries with their tasks' states.

    :param note_clears: tell the notes of tasks that are being cleared about it
    """
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import and_, select

    of_task = and_(
        TaskInstance.dag_id == Stored.dag_id,
        TaskInstance.run_id == Stored.run_id,
        TaskInstance.task_id == Stored.task_id,
        TaskInstance.map_index == Stored.map_index,
    )
    query = (
        select(Stored, TaskInstance.id, TaskInstance.state, TaskInstance.max_tries)
        .outerjoin(TaskInstance, of_task)
        .where(Stored.key == KEY)
    )
    with create_session() as session:
        rows = session.execute(query).all()
        for stored, ti_id, state, _ in rows:
            if note_clears and state == wish.CLEARED:
                _note_clear(session, stored, ti_id)
        return [seen for row in rows if (seen := _seen(*row)) is not None]


def _note_clear(session: Any, stored: Any, ti_id: object) -> None:
    """Tell a task's own notes that it was cleared, unless its new try has begun, which makes notes of its own."""
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    state = select(TaskInstance.state).where(TaskInstance.id == ti_id).with_for_update()
    if session.scalar(state) != wish.CLEARED:
        return
    notes = select(Stored).where(
        Stored.dag_run_id == stored.dag_run_id,
        Stored.task_id == stored.task_id,
        Stored.map_index == stored.map_index,
        Stored.key.in_([KEY, RECORD]),
    )
    for note in session.scalars(notes.with_for_update().execution_options(populate_existing=True)):
        with suppress(TypeError, ValueError):
            note.value = json.dumps(json.loads(note.value) | {"max_tries": None})


def _seen(stored: Any, ti_id: object, state: str | None, max_tries: int | None) -> Seen | None:
    try:
        entry = Entry(**json.loads(stored.value))
    except (TypeError, ValueError):  # a worker's own state store backend keeps the value elsewhere
        log.debug("The jobs of %s.%s of %s cannot be read here.", stored.dag_id, stored.task_id, stored.run_id)
        return None
    if ti_id is None:
        why = "was deleted"
    elif state in wish.ENDED:
        why = f"has ended ({state})"
    elif max_tries != entry.max_tries:
        why = CLEARED
    else:
        why = None
    element = f"[{stored.map_index}]" if stored.map_index >= 0 else ""
    task = f"Task {stored.dag_id}.{stored.task_id}{element} of {stored.run_id}"
    return Seen((stored.id, stored.value), (stored.dag_run_id, stored.run_id), task, entry, why)


def _deleted(dag_runs: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """Those of some runs that are no longer there."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        there = session.execute(
            select(DagRun.id, DagRun.run_id).where(DagRun.id.in_([number for number, _ in dag_runs]))
        )
        return dag_runs - {(number, name) for number, name in there}


def _erase(one: Seen) -> None:
    """Remove an entry, unless it is another one by now."""
    from airflow.models.task_state_store import TaskStateStoreModel as Stored
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    row, value = one.row
    with create_session() as session:
        session.execute(delete(Stored).where(Stored.id == row, Stored.value == value))
