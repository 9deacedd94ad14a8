"""What ties a job to the tries, restarts and resumptions of its flow run.

Prefect gives a task run a new id, and a random key, each time its flow run is run. What stays is the flow run's id and
what is asked for. So a submission is identified by its flow run, by its job specification, and by its number among the
submissions of the same run that ask for exactly the same. It does not matter which of several equal submissions gets
which of the equal jobs. This holds for mapped tasks too, which begin in any order.

A call that is repeated gets its old number: in a task run that is retried, in a flow run that is run again in the same
process, in a task or transaction whose enclosing task is retried. A flow that a flow calls counts with its caller,
since it may get another id when the caller is run again.

Task runners that run tasks in other processes cannot count together. There the task run's id takes the number's place,
so the retries of a task find its job, and a flow run that is run again does not. In a flow that such a task calls, the
id of that flow's run takes its place, so only its own retries find the job. Outside of a flow run, the identity is the
task run's; outside of both, each call has a new one.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

from prefect.exceptions import ObjectNotFound

from firecrest_core.jobs.key import claim_identity, digest_of
from prefect_firecrest.prefect_internals import (
    active_transactions,
    current_flow_run,
    current_task_run,
    is_away_from_flow,
    pause_keys,
)
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.transactions import BaseTransaction

    from firecrest_core.connection import Connection
    from firecrest_core.spec.jobspec import JobSpec

K = TypeVar("K")
V = TypeVar("V")

# For each flow run, which of its runs this is. They count from 1.
_RunCounts = dict[UUID, int]

# Far more flow runs than a process has under way.
_MOST_SCOPES = 100


@dataclass(frozen=True)
class TaskIdentity:
    """Which submission of a flow run is meant.

    :param claim_identity: what the claim of its job is for; the flow run's id comes first
    :param first_attempt: nobody can have made this submission before
    :param run_counts: its flow run and those that this one runs in, the innermost first, with the number of their runs
    :param digest: stands for what is asked for
    :param pauses: the keys of the pauses that the last of its flow runs has had since it was begun or retried
    """

    claim_identity: str
    first_attempt: bool
    run_counts: _RunCounts
    digest: str
    pauses: frozenset[str]

    @classmethod
    async def current(cls, connection: Connection, system: str, spec: JobSpec) -> TaskIdentity:
        """Return the identity of the submission that is being made in Prefect's current context."""
        flow_run, task_run = current_flow_run(), current_task_run()
        lineage = await read_lineage(flow_run) if flow_run else []
        run_counts = {one.id: one.run_count for one in lineage}
        scope: list[Any] = [*run_counts][-1:]
        if flow_run is not None and task_run is not None and task_run.flow_run_id != flow_run.id:
            task_run = None  # a task that encloses this flow
        if len(lineage) > 1 and multiprocessing.parent_process() is not None:
            # Prefect tells a task that it is away from its flow's process, but not a flow that such a task calls.
            scope.append(lineage[-2].id)
        elif task_run is not None and is_away_from_flow():
            scope.append(task_run.id)
        digest = digest_of(connection, system, spec)
        pauses = pause_keys(lineage[-1]) if lineage else frozenset()
        name, tries = spec.job_name(), task_run.run_count if task_run else 1
        if not scope:
            return cls(claim_identity(uuid4(), name, digest), True, run_counts, digest, pauses)
        numbers = runtime.state(_KnownRuns).numbers(tuple(scope))
        number, is_new = numbers.take(
            digest,
            (flow_run and flow_run.id, task_run and task_run.id),
            (flow_run and flow_run.run_count, tries),
            run_counts,
            active_transactions()[1 if task_run else 0 :],  # the first is the caller's own
        )
        first_attempt = is_new and tries == 1 and not any(_has_run_before(one) for one in lineage)
        identity = claim_identity(scope[0], name, number, digest, *scope[1:])
        return cls(identity, first_attempt, run_counts, digest, pauses)

    @property
    def flow_runs(self) -> tuple[UUID, ...]:
        """Its flow run and those that this one runs in, the innermost first."""
        return tuple(self.run_counts)

    async def is_wanted(self) -> bool:
        """Ask Prefect whether its flow runs are still this process's to run: not cancelled, not ended, not deleted."""
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            for run_id, count in self.run_counts.items():
                try:
                    flow_run = await client.read_flow_run(run_id)
                except ObjectNotFound:
                    return False
                state = flow_run.state
                if flow_run.run_count > count or state is None or state.is_final() or state.is_cancelling():
                    return False
        return bool(self.run_counts)


async def read_lineage(flow_run: FlowRun) -> list[FlowRun]:
    """Return a flow run and those that it runs in, in this process, the innermost first.

    A flow run that Prefect runs from a deployment has a process of its own, and is the last.
    """
    if flow_run.parent_task_run_id is None or flow_run.deployment_id is not None:
        return [flow_run]
    lineages = runtime.state(_KnownRuns).lineages
    known = lineages.get((flow_run.id, flow_run.run_count))
    if known is None:
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            task_run = await client.read_task_run(flow_run.parent_task_run_id)
            parent = await client.read_flow_run(task_run.flow_run_id) if task_run.flow_run_id else None
        known = [flow_run, *(await read_lineage(parent) if parent else [])]
        # A run of a flow happens in one run of its parent, so this stays true.
        lineages[flow_run.id, flow_run.run_count] = known
        _keep_newest(lineages)
    return known


def is_repeated() -> bool:
    """Tell whether an earlier try of the current task run, or run of its flow run, may have submitted."""
    return any(run is not None and run.run_count > 1 for run in (current_flow_run(), current_task_run()))


def _has_run_before(flow_run: FlowRun) -> bool:
    """Tell whether an earlier process may have submitted for this run. One that was suspended keeps its count."""
    return flow_run.run_count > 1 or bool(pause_keys(flow_run))


# --- the numbers of equal submissions -------------------------------------------------------------------------


@dataclass
class _TakenNumber:
    """Who has a number.

    :param caller: the flow run and the task run, and which of their equal calls
    :param run_counts: as in :class:`TaskIdentity`
    :param enclosing: the transactions that the call was made in
    """

    caller: tuple[Any, ...]
    run_counts: _RunCounts
    enclosing: list[BaseTransaction]

    def is_free(self, run_counts: _RunCounts) -> bool:
        """Tell whether what the call was made in is over and done again: a run of its flow, a try of a task."""
        return any(run_counts.get(run, 0) > count for run, count in self.run_counts.items()) or any(
            transaction.is_rolled_back() for transaction in self.enclosing
        )


@dataclass
class _Numbers:
    """The numbers of a flow run's submissions, counted for each digest."""

    taken: dict[str, list[_TakenNumber]] = field(default_factory=dict)
    calls: Counter[tuple[Any, ...]] = field(default_factory=Counter)

    def take(
        self,
        digest: str,
        caller: tuple[Any, ...],
        tries: tuple[Any, ...],
        run_counts: _RunCounts,
        enclosing: list[BaseTransaction],
    ) -> tuple[int, bool]:
        """Return the number of a call, and whether it is a new one."""
        call = (digest, caller, tries)
        caller = (*caller, self.calls[call])  # a task may submit the same several times
        self.calls[call] += 1
        taken = self.taken.setdefault(digest, [])
        own = [number for number, one in enumerate(taken) if one.caller == caller]
        free = own or [number for number, one in enumerate(taken) if one.is_free(run_counts)]
        new = _TakenNumber(caller, run_counts, enclosing)
        if free:
            taken[free[0]] = new
            return free[0], False
        taken.append(new)
        return len(taken) - 1, True


@dataclass
class _KnownRuns:
    """What this process knows of flow runs. Used in the runtime's event loop alone."""

    scopes: OrderedDict[tuple[Any, ...], _Numbers] = field(default_factory=OrderedDict)
    lineages: OrderedDict[tuple[UUID, int], list[FlowRun]] = field(default_factory=OrderedDict)

    def numbers(self, scope: tuple[Any, ...]) -> _Numbers:
        numbers = self.scopes.setdefault(scope, _Numbers())
        self.scopes.move_to_end(scope)
        _keep_newest(self.scopes)
        return numbers


def _keep_newest(entries: OrderedDict[K, V]) -> None:
    while len(entries) > _MOST_SCOPES:
        entries.popitem(last=False)
