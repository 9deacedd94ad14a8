"""Whether a flow run's jobs are still wanted, as its state tells.

A person ends jobs by cancelling or deleting the flow run, or by Ctrl-C in a script. A flow run that failed, or whose
process died, may be run again and then goes on with its jobs: nobody wished them to end. Only one that crashed and
that nobody has come back to for long is taken for given up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

# The most that Prefect gives in one answer.
_PAGE = 200
# In Prefect's message of a flow run that crashed by KeyboardInterrupt.
_INTERRUPTED = "interrupt signal"


async def read_flow_runs(client: PrefectClient, ids: Iterable[UUID]) -> dict[UUID, FlowRun]:
    """Read flow runs; those that were deleted are not among them."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    wanted = list(dict.fromkeys(ids))
    found: dict[UUID, FlowRun] = {}
    for start in range(0, len(wanted), _PAGE):
        some = FlowRunFilter(id=FlowRunFilterId(any_=wanted[start : start + _PAGE]))
        found |= {run.id: run for run in await client.read_flow_runs(flow_run_filter=some, limit=_PAGE)}
    return found


def unwanted(flow_runs: tuple[UUID, ...], seen: Mapping[UUID, FlowRun], *, crashed_for: float = math.inf) -> str | None:
    """Return why the jobs of a flow run have to end; ``None`` while they may go on.

    :param flow_runs: the flow run and those that it runs in, the innermost first: each may be cancelled
    :param crashed_for: seconds after which a flow run that crashed is taken for given up
    """
    for flow_run_id in flow_runs:
        flow_run = seen.get(flow_run_id)
        if flow_run is None:
            return "was deleted"
        if flow_run.state is not None and (flow_run.state.is_cancelling() or flow_run.state.is_cancelled()):
            return "was cancelled"
    # The others end with the process of the last, and begin anew with it.
    own = seen[flow_runs[-1]]
    if own.state is not None and own.state.is_crashed():
        if own.deployment_id is None and _INTERRUPTED in (own.state.message or ""):
            return "was interrupted"
        if _age(own) > crashed_for:
            return "crashed, and nobody has run it again"
    return None


def is_over(flow_runs: tuple[UUID, ...], seen: Mapping[UUID, FlowRun]) -> bool:
    """Whether a flow run has ended by itself, so that whatever it has left running is meant to."""
    own = seen.get(flow_runs[-1])
    return own is not None and own.state is not None and (own.state.is_completed() or own.state.is_failed())


def _age(flow_run: FlowRun) -> float:
    from datetime import UTC, datetime

    assert flow_run.state is not None
    return (datetime.now(UTC) - flow_run.state.timestamp).total_seconds()
