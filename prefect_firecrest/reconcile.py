"""Ends jobs whose flow run was ended where no process could hear of it, and resumes runs whose job has ended.

    python -m prefect_firecrest.reconcile            # looks every few seconds, for ever
    python -m prefect_firecrest.reconcile --once     # one look, for cron
    reconcile.serve("firecrest", interval=60)        # a look a minute, as a flow that Prefect shows

One is enough for all flow runs of a Prefect server, wherever they run. It needs Prefect's API, the blocks with the
credentials that are stored there, and the FirecREST servers. It remembers nothing: it compares what is written down
(:mod:`prefect_firecrest.ledger`) with the flow runs' states, so it may be killed and started at any moment, and a
second one does no harm. While there is nothing to do, a look is one request to Prefect; the jobs of all suspended flow
runs on a system are one list of jobs an interval.

It resumes runs itself, where an automation could do it on an event: an event is told once, and a run whose event was
lost would sleep for ever.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Coroutine
from typing import TYPE_CHECKING
from uuid import UUID

from prefect import flow

from firecrest_core.errors import FirecRESTError, JobNotFound, WaitTimedOut
from prefect_firecrest import ending, events, ledger, wish
from prefect_firecrest.background import run
from prefect_firecrest.credentials import FirecRESTCredentials
from prefect_firecrest.ledger import Entry, Note
from prefect_firecrest.suspension import PauseKey

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

log = logging.getLogger("prefect_firecrest.reconcile")

INTERVAL = 5.0
"""Seconds between two looks."""

CRASHED_FOR = 24 * 3600.0
"""Seconds after which the jobs of a flow run that crashed are cancelled, unless somebody has run it again."""

_PAUSE_AFTER_FAILURE = 60.0
# For so long a new job may be unknown to the scheduler.
_YOUNG = 120.0

_Lineage = tuple[UUID, ...]


class Reconciler:
    """Looks at the flow runs that have jobs.

    :param crashed_for: seconds after which a flow run that crashed is taken for given up
    :param wait: whether to wait for jobs between the looks; else each look asks for them once
    """

    def __init__(self, crashed_for: float = CRASHED_FOR, *, wait: bool = True) -> None:
        self._crashed_for = crashed_for
        self._wait = wait
        self._notes: dict[UUID, Note] = {}
        self._under_way: dict[_Lineage | str, asyncio.Task[None]] = {}
        self._not_before: dict[_Lineage | str, float] = {}

    async def run(self) -> None:
        """Look again and again."""
        blind = False
        while True:
            try:
                await self.look()
            except Exception as error:  # Prefect's API may be away
                log.log(logging.DEBUG if blind else logging.WARNING, "Cannot see which flow runs are wanted: %s", error)
                blind = True
            else:
                blind = False
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Look once, and begin what is to be done."""
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            self._notes |= {note.id: note for note in await ledger.read(client, self._notes)}
            notes = sorted(self._notes.values(), key=lambda note: note.written_at, reverse=True)
            seen = await wish.read_flow_runs(client, [flow_run for note in notes for flow_run in note.flow_runs])
            by_lineage: defaultdict[_Lineage, list[Note]] = defaultdict(list)
            superseded: list[Note] = []
            newest: set[Entry] = set()
            for note in notes:
                # A flow run that is run again writes its calls down again: what counts is the newest.
                fresh = [entry for entry in note.entries if entry not in newest]
                newest.update(fresh)
                if fresh:
                    by_lineage[note.flow_runs].append(Note(note.id, note.flow_runs, tuple(fresh), note.written_at))
                else:
                    superseded.append(note)
            await self._forget(client, superseded)
            suspended: set[str] = set()
            for flow_runs, theirs in by_lineage.items():
                if why := wish.unwanted(flow_runs, seen, crashed_for=self._crashed_for):
                    self._begin(flow_runs, self._end(flow_runs, theirs, why))
                elif wish.is_over(flow_runs, seen):
                    await self._forget(client, theirs)
                elif key := _awaited(seen[flow_runs[-1]]):
                    for note in theirs:
                        for entry in note.entries:
                            if _is_of(entry, key):
                                suspended.add(str(key))
                                self._begin(str(key), self._resume(seen[flow_runs[-1]].id, note, entry, key))
        for name, task in self._under_way.items():
            if isinstance(name, str) and name not in suspended:
                task.cancel()

    async def settled(self) -> None:
        """Wait until all is done that was begun."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _begin(self, name: _Lineage | str, work: Coroutine[None, None, None]) -> None:
        if name in self._under_way or time.monotonic() < self._not_before.get(name, 0.0):
            work.close()
            return
        task = self._under_way[name] = asyncio.create_task(work)
        task.add_done_callback(lambda task: self._done(name, task))

    def _done(self, name: _Lineage | str, task: asyncio.Task[None]) -> None:
        del self._under_way[name]
        self._not_before.pop(name, None)
        if not task.cancelled() and (error := task.exception()):
            self._not_before[name] = time.monotonic() + _PAUSE_AFTER_FAILURE
            log.error("%s", error)

    async def _end(self, flow_runs: _Lineage, notes: list[Note], why: str) -> None:
        from prefect.client.orchestration import get_client

        entries = {entry for note in notes for entry in note.entries}
        try:
            await ending.end_noted(entries)
        except (FirecRESTError, ValueError) as error:
            raise RuntimeError(
                f"Flow run {flow_runs[0]} {why}, but not all of its jobs can be cancelled: {error}"
            ) from error
        log.info("Flow run %s %s, and so were its jobs.", flow_runs[0], why)
        async with get_client() as client:
            await self._forget(client, notes)

    async def _resume(self, flow_run_id: UUID, note: Note, entry: Entry, key: PauseKey) -> None:
        """Resume a flow run when the job that it waits for has ended."""
        from prefect.client.orchestration import get_client

        from firecrest_core import arrays
        from firecrest_core.job import Job
        from firecrest_core.watcher import JobWatcher

        assert entry.credentials is not None, "a flow run is suspended with credentials that were saved"
        credentials: FirecRESTCredentials = await FirecRESTCredentials.aload(entry.credentials)
        connection = credentials.connection()
        job = Job(
            system=entry.system,
            job_id=key.job_id,
            working_directory=entry.working_dir,
            array_indices=arrays.indices(entry.array) if entry.array else None,
            submitted_at=note.written_at,
        )
        is_young = time.time() - note.written_at < _YOUNG
        try:
            result = await JobWatcher.shared(connection, entry.system).wait(
                job,
                timeout=None if self._wait else 0.0,
                story=log.debug,
                # Whether it has ended for good, and how, is for the flow run to judge.
                not_found_grace=None if is_young else -1.0,
                provisional_grace=-1.0,
            )
        except WaitTimedOut:
            return
        except JobNotFound as error:
            log.warning("%s", error)
        else:
            events.emit("ended", result, result.state, flow_run_id=flow_run_id)
        log.info("Flow run %s is resumed: %s on %s has ended.", flow_run_id, job, entry.system)
        async with get_client() as client:
            await client.resume_flow_run(flow_run_id)

    async def _forget(self, client: PrefectClient, notes: list[Note]) -> None:
        await ledger.forget(client, [note.id for note in notes])
        for note in notes:
            self._notes.pop(note.id, None)


def _awaited(flow_run: FlowRun) -> PauseKey | None:
    """Return what a flow run is suspended for, if that is a job's end."""
    state = flow_run.state
    return PauseKey.read(state.state_details.pause_key) if state is not None and state.is_paused() else None


def _is_of(entry: Entry, key: PauseKey) -> bool:
    from firecrest_core import claim

    return entry.identity is not None and claim.fingerprint(entry.identity) == key.fingerprint


async def _once(crashed_for: float) -> None:
    reconciler = Reconciler(crashed_for, wait=False)
    await reconciler.look()
    await reconciler.settled()


@flow(name="firecrest-reconcile")
def reconcile(crashed_for: float = CRASHED_FOR) -> None:
    """Look once at all flow runs that have jobs: end those of runs that were ended, resume runs whose job has ended.

    :param crashed_for: seconds after which the jobs of a flow run that crashed are cancelled, unless somebody has run
        it again
    """
    run(_once(crashed_for))


def main() -> None:
    """Do it from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m prefect_firecrest.reconcile",
        description="End jobs whose flow run was ended, and resume flow runs whose job has ended.",
    )
    parser.add_argument("--once", action="store_true", help="look once and exit, for cron")
    parser.add_argument(
        "--crashed-for",
        type=float,
        default=CRASHED_FOR,
        metavar="SECONDS",
        help="cancel the jobs of a flow run that crashed so long ago and was not run again (default: a day)",
    )
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    log.setLevel(logging.INFO)
    with contextlib.suppress(KeyboardInterrupt):
        run(_once(given.crashed_for) if given.once else Reconciler(given.crashed_for).run())


if __name__ == "__main__":
    main()
