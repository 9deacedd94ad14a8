"""What Prefect shows of jobs that were cancelled for their flow run: rows in its table, events, a line in its log.

No process may wait for such a job any more, so whoever cancels it shows its end. This costs a list of jobs for each
system, or a few. What fails here fails nothing else: the jobs are cancelled. But their records stay then, and the
reconciler shows it later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from firecrest_core.claims.claim import CANCELLED
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.errors import FirecRESTError
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import fingerprint, read_job_name, users_name
from firecrest_core.jobs.status import JobStatus, parse_status
from firecrest_core.result import JobResult
from firecrest_core.states import JobState
from prefect_firecrest.cancellation.policy import EndReason
from prefect_firecrest.cancellation.records import JobRecord
from prefect_firecrest.clients import client_of
from prefect_firecrest.observability import events
from prefect_firecrest.observability.job_table import JobTable, Row

if TYPE_CHECKING:
    from firecrest_core.api.client import System
    from firecrest_core.api.models import JobInfo
    from firecrest_core.connection import Connection

log = logging.getLogger(__name__)

# For showing everything: a runner gives an exiting process thirty seconds for this and the cancel before it.
_LONGEST = 15.0
# A job that is cancelled right after its submission has left the queue before the accounting knows of it.
_LONGEST_LAG = 5.0
_PAUSE = 0.5
_MOST_NAMED = 5
_NEVER_BEGAN = "cancelled before it began"

_Lineage = tuple[UUID, ...]


async def show_ends(
    connection: Connection, saved_as: str | None, jobs: Mapping[_Lineage, Iterable[JobRecord]], reason: EndReason
) -> bool:
    """Show that jobs were cancelled.

    :param connection: where the jobs are
    :param saved_as: the name of its block
    :param jobs: the records of the jobs by the flow run and those that it runs in, the innermost first
    :param reason: why they were cancelled
    :returns: whether Prefect has it; otherwise it may be tried again
    """
    if reason is EndReason.DELETED:
        return True  # nobody looks there any more
    try:
        async with asyncio.timeout(_LONGEST):
            found = await _find(connection, saved_as, {record for some in jobs.values() for record in some})
            for flow_runs, some in jobs.items():
                await _show(flow_runs, [result for record in some for result in found.get(record, ())], reason)
    except Exception as error:
        log.debug("The ends of cancelled jobs are not shown: %s", str(error) or type(error).__name__)
        return False
    return True


async def _find(
    connection: Connection, saved_as: str | None, records: Iterable[JobRecord]
) -> dict[JobRecord, list[JobResult]]:
    """Return how the jobs of records ended; one that is about to end counts as cancelled."""
    by_system: defaultdict[str, list[JobRecord]] = defaultdict(list)
    for record in records:
        by_system[record.system].append(record)
    async with client_of(connection, saved_as) as client:
        found = await asyncio.gather(*(_find_on(client.system(name), some) for name, some in by_system.items()))
    return {record: results for on_system in found for record, results in on_system.items()}


async def _find_on(system: System, records: Sequence[JobRecord]) -> dict[JobRecord, list[JobResult]]:
    give_up_at = time.monotonic() + _LONGEST_LAG
    while True:
        found = _read(await system.get_jobs(), records)
        if len(found) == len(records) or time.monotonic() > give_up_at:
            break
        await asyncio.sleep(_PAUSE)
    pairs = [(record, one) for record, results in found.items() for one in results]
    ended: defaultdict[JobRecord, list[JobResult]] = defaultdict(list)
    results = await asyncio.gather(*(_as_claimed(system, *pair) for pair in pairs))
    for (record, _), result in zip(pairs, results, strict=True):
        ended[record].append(result)
    return ended


async def _as_claimed(system: System, record: JobRecord, result: JobResult) -> JobResult:
    """Return what a job's end means: one that began after it was cancelled has completed, but ran nothing."""
    if record.identity is None or not result.succeeded:
        return result
    try:
        claims = await ClaimDirectory(system, record.working_dir, record.identity).read()
    except FirecRESTError as error:
        log.debug("Nothing says whether job %s ran: %s", result.job_id, error)
        return result
    ran = result.job_id in claims.jobs([record.epoch])
    was_cancelled = CANCELLED in [holder for (epoch, _), holder in claims.holders.items() if epoch == record.epoch]
    if ran or not was_cancelled:
        return result
    return replace(result, state=JobState.CANCELLED, reason=_NEVER_BEGAN)


def _read(rows: Iterable[JobInfo], records: Iterable[JobRecord]) -> dict[JobRecord, list[JobResult]]:
    by_job: defaultdict[str, list[JobInfo]] = defaultdict(list)
    for row in rows:
        by_job[row.of_job].append(row)
    by_name = {(fingerprint(one.identity), one.epoch): one for one in records if one.identity is not None}
    by_id = {one.job_id: one for one in records if one.identity is None}
    found: defaultdict[JobRecord, list[JobResult]] = defaultdict(list)
    for job_id, theirs in by_job.items():
        key = read_job_name(theirs[0].name)
        owner = by_id.get(job_id) or (by_name.get(key[:2]) if key is not None else None)
        if owner is not None:
            expected = Indices.parse(owner.array) if owner.array else None
            found[owner].append(_result(owner.job(job_id), parse_status(theirs, job_id, expected)))
    return found


def _result(job: Job, status: JobStatus) -> JobResult:
    ended = status.all_ended and status.state.ended
    return JobResult(
        job_id=job.job_id,
        system=job.system,
        name=users_name(status.name),
        state=status.state if ended else JobState.CANCELLED,
        reason=status.reason if ended else None,
        exit_code=status.exit_code if ended else None,
        signal=status.signal if ended else None,
        cancelled_by=status.cancelled_by,
        elapsed=status.elapsed,
        nodes=status.nodes,
        node_count=status.node_count,
        working_dir=job.working_dir,
    )


async def _show(flow_runs: _Lineage, results: Sequence[JobResult], reason: EndReason) -> None:
    tables = [await JobTable.find(flow_run_id) for flow_run_id in flow_runs]
    own = tables[0]
    # The others left without running anything, or their place was taken.
    results = [
        one for one in results if own.shows(one) or (one.state is JobState.CANCELLED and one.reason != _NEVER_BEGAN)
    ]
    await events.send_ended(results, flow_runs[0])
    for table in tables:
        for result in results:
            if not table.shows_end(result):
                table.show(Row.of(result, result))
        if not await table.write():
            raise OSError("a table was not written")
    # Last, because what fails is tried again, and each line is one more.
    if cancelled := [one for one in results if one.state is JobState.CANCELLED]:
        await _tell(flow_runs, _sentence(cancelled, reason))


def _sentence(cancelled: Sequence[JobResult], reason: EndReason) -> str:
    named = ", ".join(f"{one.job_id} ({one.name})" if one.name else one.job_id for one in cancelled[:_MOST_NAMED])
    more = f" and {len(cancelled) - _MOST_NAMED} more" if len(cancelled) > _MOST_NAMED else ""
    several = len(cancelled) > 1
    return (
        f"The flow run {reason}, so job{'s' * several} {named}{more} on {cancelled[0].system} "
        f"{'were' if several else 'was'} cancelled."
    )


async def _tell(flow_runs: _Lineage, sentence: str) -> None:
    """Say something in the logs of flow runs. Prefect's own handlers may be gone already while a process exits."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import LogCreate
    from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED

    if not PREFECT_LOGGING_TO_API_ENABLED.value():
        return
    logs = [
        LogCreate(
            name="prefect.flow_runs",
            level=logging.INFO,
            message=sentence,
            timestamp=datetime.now(UTC),
            flow_run_id=flow_run_id,
        )
        for flow_run_id in flow_runs
    ]
    async with get_client() as client:
        await client.create_logs(logs)
