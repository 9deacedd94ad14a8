"""Whether the jobs of a flow run have to end, judged by its state.

A person ends jobs by cancelling or deleting the flow run, by Ctrl-C in a script, or by a limit, ``timeout_seconds``. A
flow run that failed, or whose process died, may be run again and then goes on with its jobs: nobody wanted them to end.
Only a flow run that crashed, and that nobody has run again for long, counts as abandoned.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

from prefect_firecrest.prefect_internals import PAGE_SIZE, took_too_long, was_interrupted

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun, State


class EndReason(StrEnum):
    """Why the jobs of a flow run have to end. The value completes a sentence that begins with the flow run."""

    DELETED = "was deleted"
    CANCELLED = "was cancelled"
    INTERRUPTED = "was interrupted"
    TOO_LONG = "took longer than its timeout_seconds"
    TASK_TOO_LONG = "has a task that took longer than its timeout_seconds"
    ASKED = "asked for it"
    """By ``cancel_job`` or a job run's ``cancel``."""
    ABANDONED = "crashed, and nobody has run it again"


async def read_flow_runs(client: PrefectClient, ids: Iterable[UUID]) -> dict[UUID, FlowRun]:
    """Read flow runs; those that were deleted are not among them."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    wanted = list(dict.fromkeys(ids))
    found: dict[UUID, FlowRun] = {}
    for start in range(0, len(wanted), PAGE_SIZE):
        some = FlowRunFilter(id=FlowRunFilterId(any_=wanted[start : start + PAGE_SIZE]))
        found |= {run.id: run for run in await client.read_flow_runs(flow_run_filter=some, limit=PAGE_SIZE)}
    return found


def cancel_reason(
    flow_runs: tuple[UUID, ...], found: Mapping[UUID, FlowRun], *, crashed_for: float = math.inf
) -> EndReason | None:
    """Return why the jobs of a flow run have to end; ``None`` while they may go on.

    :param flow_runs: the flow run and those that it runs in, the innermost first: each may be cancelled
    :param found: what :func:`read_flow_runs` returned for these ids
    :param crashed_for: seconds after which a flow run that crashed counts as abandoned
    """
    for flow_run_id in flow_runs:
        flow_run = found.get(flow_run_id)
        if flow_run is None:
            return EndReason.DELETED
        if flow_run.state is not None and (flow_run.state.is_cancelling() or flow_run.state.is_cancelled()):
            return EndReason.CANCELLED
        if took_too_long(flow_run.state):
            return EndReason.TOO_LONG
    # The others end with the process of the outermost one, and begin anew with it.
    outermost = found[flow_runs[-1]]
    if outermost.state is not None and outermost.state.is_crashed():
        if outermost.deployment_id is None and was_interrupted(outermost.state):
            return EndReason.INTERRUPTED
        if _age(outermost.state) > crashed_for:
            return EndReason.ABANDONED
    return None


def is_finished(flow_runs: tuple[UUID, ...], found: Mapping[UUID, FlowRun]) -> bool:
    """Tell whether a flow run has ended by itself, so that the jobs that it has left running are meant to run."""
    outermost = found.get(flow_runs[-1])
    state = outermost.state if outermost is not None else None
    return state is not None and (state.is_completed() or state.is_failed())


def is_completed(flow_runs: tuple[UUID, ...], found: Mapping[UUID, FlowRun], *, at_least: float = 0.0) -> bool:
    """Tell whether a flow run has ended well, so that nobody runs it again and looks for its jobs.

    :param at_least: for how many seconds it has
    """
    outermost = found.get(flow_runs[-1])
    state = outermost.state if outermost is not None else None
    return state is not None and state.is_completed() and _age(state) >= at_least


def _age(state: State) -> float:
    return (datetime.now(UTC) - state.timestamp).total_seconds()
