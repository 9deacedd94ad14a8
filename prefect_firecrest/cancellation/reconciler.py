"""Compares the job records with the states of the flow runs, and does what no process of a flow run can do.

It cancels the jobs of flow runs that a person has ended, resumes flow runs when the jobs that they are suspended for
have ended, and removes the claims of flow runs that have completed.

It remembers only what has failed, so it may be killed and started at any moment, and a second one does no harm. While
there is nothing to do, a reconciliation is one request to Prefect. The jobs of all suspended flow runs on a system are
one list of jobs an interval. What fails is tried again after growing pauses, for seven days.

It resumes flow runs itself, where an automation could do it on an event: an event is emitted once, and a run whose
event was lost would sleep for ever.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from firecrest_core import lifecycle
from firecrest_core.errors import FirecRESTError
from firecrest_core.pauses import Pauses
from prefect_firecrest.cancellation import records
from prefect_firecrest.cancellation.cancel import cancel_with_saved_credentials
from prefect_firecrest.cancellation.policy import EndReason, cancel_reason, is_completed, is_finished, read_flow_runs
from prefect_firecrest.cancellation.records import JobRecord, RecordArtifact
from prefect_firecrest.cancellation.removal import remove_with_saved_credentials
from prefect_firecrest.cancellation.resumption import RecordedJob, have_ended, recorded_jobs
from prefect_firecrest.cancellation.saved_credentials import FIRST_PAUSE, LONGEST_PAUSE, CredentialsUnusable
from prefect_firecrest.cancellation.signatures import RecordSignatures, UnsignedRecord
from prefect_firecrest.pause_key import PauseKey
from prefect_firecrest.prefect_internals import current_pause_key
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two reconciliations."""

CRASHED_FOR = 24 * 3600.0
"""Seconds after which the jobs of a flow run that crashed are cancelled, unless somebody has run it again."""

# Seconds for which it is tried to cancel the jobs of a flow run.
_GIVE_UP_AFTER = 7 * 24 * 3600.0
_MOST_NAMED = 5

_Lineage = tuple[UUID, ...]


class Reconciler:
    """Looks after the flow runs that have jobs.

    :param crashed_for: seconds after which a flow run that crashed counts as abandoned
    :param wait: whether to wait for jobs between the reconciliations; otherwise each asks for them once
    """

    def __init__(self, crashed_for: float = CRASHED_FOR, *, wait: bool = True) -> None:
        self._crashed_for = crashed_for
        self._wait = wait
        self._artifacts: dict[UUID, RecordArtifact] = {}
        self._under_way: dict[_Lineage | str, asyncio.Task[None]] = {}
        self._pauses = Pauses(FIRST_PAUSE, LONGEST_PAUSE)
        self._failing_since: dict[_Lineage | str, float] = {}

    async def run(self) -> None:
        """Reconcile every few seconds, for ever."""
        failed = False
        while True:
            try:
                await self.reconcile_once()
            except Exception as error:  # Prefect's API may be away
                level = logging.DEBUG if failed else logging.WARNING
                log.log(level, "Cannot see which flow runs were cancelled: %s", error)
                failed = True
            else:
                failed = False
            await asyncio.sleep(INTERVAL)

    async def reconcile_once(self) -> None:
        """Read the records and the flow runs' states once, and begin what is to be done."""
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            new = {one.id: one for one in await records.read(client, self._artifacts)}
            await runtime.state(RecordSignatures).look_at(new.values())
            self._artifacts |= new
            by_lineage, superseded = _newest_records(self._artifacts.values())
            await self._delete(client, superseded)
            found = await read_flow_runs(client, [flow_run for flow_runs in by_lineage for flow_run in flow_runs])
            suspended: dict[tuple[UUID, PauseKey], list[RecordArtifact]] = {}
            for flow_runs, theirs in by_lineage.items():
                if reason := cancel_reason(flow_runs, found, crashed_for=self._crashed_for):
                    if self._is_to_give_up(flow_runs):
                        await self._give_up(client, flow_runs, theirs, reason)
                        continue
                    self._begin(flow_runs, self._cancel(flow_runs, theirs, reason))
                elif is_completed(flow_runs, found):
                    if is_completed(flow_runs, found, at_least=lifecycle.SETTLED_AFTER):
                        self._begin(flow_runs, self._remove_claims(theirs))
                elif is_finished(flow_runs, found):
                    await self._delete(client, theirs)
                elif key := PauseKey.read(current_pause_key(found[flow_runs[-1]])):
                    suspended.setdefault((flow_runs[-1], key), []).extend(theirs)
        for (flow_run, key), theirs in suspended.items():
            if jobs := recorded_jobs(key, theirs):
                self._begin(str(key), self._resume(flow_run, jobs))
        there = {*by_lineage, *(str(key) for _, key in suspended)}
        for name, task in self._under_way.items():
            if isinstance(name, str) and name not in there:
                task.cancel()
        self._pauses.keep(there.__contains__)
        self._failing_since = {name: since for name, since in self._failing_since.items() if name in there}

    async def drain(self) -> None:
        """Wait until all is done that was begun."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _begin(self, name: _Lineage | str, work: Coroutine[None, None, None]) -> None:
        if name in self._under_way or not self._pauses.is_due(name):
            work.close()
            return
        task = self._under_way[name] = asyncio.create_task(work)
        task.add_done_callback(lambda task: self._done(name, task))

    def _done(self, name: _Lineage | str, task: asyncio.Task[None]) -> None:
        del self._under_way[name]
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._pauses.succeeded(name)
            self._failing_since.pop(name, None)
            return
        self._failing_since.setdefault(name, time.monotonic())
        if isinstance(error, CredentialsUnusable):  # these have pauses of their own
            return
        is_new = self._pauses.failed(name)
        if not isinstance(error, UnsignedRecord):
            log.log(logging.ERROR if is_new else logging.DEBUG, "%s This is tried again, ever more seldom.", error)

    def _is_to_give_up(self, flow_runs: _Lineage) -> bool:
        since = self._failing_since.get(flow_runs, math.inf)
        return flow_runs not in self._under_way and time.monotonic() - since > _GIVE_UP_AFTER

    async def _give_up(
        self, client: PrefectClient, flow_runs: _Lineage, artifacts: list[RecordArtifact], reason: EndReason
    ) -> None:
        theirs = [record for artifact in artifacts for record in artifact.records]
        log.error(
            "Flow run %s %s, but some of its jobs could not be cancelled for seven days, which is given up. Cancel "
            "what is left by hand (scancel): %s%s.",
            flow_runs[0],
            reason,
            ", ".join(record.job_name_pattern() for record in theirs[:_MOST_NAMED]),
            f" and {len(theirs) - _MOST_NAMED} more" if len(theirs) > _MOST_NAMED else "",
        )
        await self._delete(client, artifacts)

    async def _cancel(self, flow_runs: _Lineage, artifacts: list[RecordArtifact], reason: EndReason) -> None:
        from prefect.client.orchestration import get_client

        try:
            await cancel_with_saved_credentials(artifacts, reason)
        except FirecRESTError as error:
            raise RuntimeError(
                f"Flow run {flow_runs[0]} {reason}, but not all of its jobs can be cancelled: {error}"
            ) from error
        log.info("Flow run %s %s, and its jobs were cancelled.", flow_runs[0], reason)
        async with get_client() as client:
            await self._delete(client, artifacts)

    async def _remove_claims(self, artifacts: list[RecordArtifact]) -> None:
        from prefect.client.orchestration import get_client

        try:
            await remove_with_saved_credentials(artifacts)
        except (FirecRESTError, CredentialsUnusable) as error:
            log.debug("The claims of flow run %s are left to age: %s", artifacts[0].flow_runs[-1], error)
        async with get_client() as client:
            await self._delete(client, artifacts)

    async def _resume(self, flow_run_id: UUID, jobs: list[RecordedJob]) -> None:
        """Resume a flow run when the jobs that it waits for have ended."""
        from prefect.client.orchestration import get_client

        if not await have_ended(jobs, wait=self._wait):
            return
        named = ", ".join(f"{one.job} on {one.record.system}" for one in jobs[:_MOST_NAMED])
        more = f" and {len(jobs) - _MOST_NAMED} more" if len(jobs) > _MOST_NAMED else ""
        have = "has" if len(jobs) == 1 else "have"
        log.info("Flow run %s is resumed: %s%s %s ended.", flow_run_id, named, more, have)
        async with get_client() as client:
            await client.resume_flow_run(flow_run_id)

    async def _delete(self, client: PrefectClient, artifacts: list[RecordArtifact]) -> None:
        await records.delete(client, [one.id for one in artifacts])
        for one in artifacts:
            self._artifacts.pop(one.id, None)


def _newest_records(
    artifacts: Iterable[RecordArtifact],
) -> tuple[dict[_Lineage, list[RecordArtifact]], list[RecordArtifact]]:
    """Return the artifacts of each flow run, each with the records that no newer one repeats, and those without any.

    A flow run that is run again writes its records again. Those of another flow run supersede nothing.
    """
    by_lineage: defaultdict[_Lineage, list[RecordArtifact]] = defaultdict(list)
    superseded: list[RecordArtifact] = []
    newer: set[tuple[UUID, JobRecord]] = set()
    for artifact in sorted(artifacts, key=lambda one: one.written_at, reverse=True):
        outermost = artifact.flow_runs[-1]
        own = tuple(one for one in artifact.records if (outermost, replace(one, signature="")) not in newer)
        newer.update((outermost, replace(one, signature="")) for one in own)
        if own:
            by_lineage[artifact.flow_runs].append(replace(artifact, records=own))
        else:
            superseded.append(artifact)
    return by_lineage, superseded
