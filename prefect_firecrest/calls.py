"""Which submission of a flow run a call is: what ties a job to the tries, restarts and resumptions of its run.

Prefect gives a task run a new id, and a random key, each time its flow run is run. What stays is the flow run's id and
what is asked for. So a call is known by its flow run, by its job specification, and by its number among the calls of
the same run that ask for exactly the same: which of several equal calls gets which of the equal jobs does not matter.
That holds for mapped tasks, too, which begin in any order.

A call that is made again asks for its old number: in a task run that is retried, in a flow run that is run again in
the same process, in a task or transaction whose enclosing task is retried. A flow that is called by a flow counts with
its caller, since it may get another id when that one is run again.

Task runners that run tasks in other processes cannot count together. There the task run takes the number's place, so
the retries of a task meet its job, and a flow run that is run again does not; in a flow that such a task calls, that
flow's run does, so only its own retries meet the job. Outside of a flow run, the task run is all there is; a call
outside of both is always a new one.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectNotFound

from firecrest_core import claim

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.transactions import BaseTransaction

    from firecrest_core.connection import Connection
    from firecrest_core.jobspec import JobSpec

# A flow run, and which of its runs: both that count from 1.
_Attempts = dict[UUID, int]

# Far more flow runs than a process has under way.
_MOST_SCOPES = 100


@dataclass(frozen=True)
class Call:
    """One submission that is asked for.

    :param identity: names it, the flow run's id first
    :param fresh: nobody can have asked for it before
    :param attempts: its flow run and those that this one runs in, the innermost first, with the number of their runs
    :param digest: stands for what is asked for
    :param pauses: the keys of the pauses that the last of its flow runs has had since it was begun or retried
    """

    identity: str
    fresh: bool
    attempts: _Attempts
    digest: str
    pauses: frozenset[str]

    @classmethod
    async def current(cls, connection: Connection, system: str, spec: JobSpec) -> Call:
        """Return the call that is being made in Prefect's current context."""
        flow, task = FlowRunContext.get(), TaskRunContext.get()
        flow_run = flow.flow_run if flow else None
        task_run = task.task_run if task else None
        lineage = await lineage_of(flow_run) if flow_run else []
        attempts = {one.id: one.run_count for one in lineage}
        scope: list[Any] = [*attempts][-1:]
        if flow_run is not None and task_run is not None and task_run.flow_run_id != flow_run.id:
            task_run = None  # a task that encloses this flow
        if len(lineage) > 1 and multiprocessing.parent_process() is not None:
            # Prefect tells a task that it is away from its flow's process, but not a flow that such a task calls.
            scope.append(lineage[-2].id)
        elif task_run is not None and (flow is None or flow_run is None or flow.detached):
            scope.append(task_run.id)
        digest = digest_of(connection, system, spec)
        pauses = frozenset(lineage[-1].empirical_policy.pause_keys or ()) if lineage else frozenset()
        name, tries = claim.own_name(spec), task_run.run_count if task_run else 1
        if not scope:
            return cls(claim.identity(uuid4(), name, digest), True, attempts, digest, pauses)
        number, is_new = _numbers(scope).take(
            digest,
            (flow_run and flow_run.id, task_run and task_run.id),
            (flow_run and flow_run.run_count, tries),
            attempts,
            _enclosing(own=task_run is not None),
        )
        fresh = is_new and tries == 1 and not any(_has_run_before(one) for one in lineage)
        return cls(claim.identity(scope[0], name, number, digest, *scope[1:]), fresh, attempts, digest, pauses)

    @property
    def flow_runs(self) -> tuple[UUID, ...]:
        """Its flow run and those that this one runs in, the innermost first."""
        return tuple(self.attempts)

    async def is_wanted(self) -> bool:
        """Ask Prefect whether its flow runs are still this process's to run: not cancelled, not ended, not deleted."""
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            for run_id, count in self.attempts.items():
                try:
                    flow_run = await client.read_flow_run(run_id)
                except ObjectNotFound:
                    return False
                state = flow_run.state
                if flow_run.run_count > count or state is None or state.is_final() or state.is_cancelling():
                    return False
        return bool(self.attempts)


@dataclass
class _Taken:
    """A number, and the call that has it."""

    caller: tuple[Any, ...]
    attempts: _Attempts
    enclosing: list[BaseTransaction]

    def is_given_up(self, attempts: _Attempts) -> bool:
        """Whether what the call was made in is over and done again: a later run of its flow, another try of a task."""
        return any(attempts.get(run, 0) > count for run, count in self.attempts.items()) or any(
            transaction.is_rolled_back() for transaction in self.enclosing
        )


@dataclass
class _Numbers:
    """The numbers of a flow run's calls."""

    taken: dict[str, list[_Taken]] = field(default_factory=dict)
    made: Counter[tuple[Any, ...]] = field(default_factory=Counter)

    def take(
        self,
        digest: str,
        caller: tuple[Any, ...],
        tries: tuple[Any, ...],
        attempts: _Attempts,
        enclosing: list[BaseTransaction],
    ) -> tuple[int, bool]:
        """Return the number of a call, and whether it is a new one."""
        made = (digest, caller, tries)
        caller = (*caller, self.made[made])  # a task may submit the same several times
        self.made[made] += 1
        calls = self.taken.setdefault(digest, [])
        mine = [number for number, one in enumerate(calls) if one.caller == caller]
        free = mine or [number for number, one in enumerate(calls) if one.is_given_up(attempts)]
        now = _Taken(caller, attempts, enclosing)
        if free:
            calls[free[0]] = now
            return free[0], False
        calls.append(now)
        return len(calls) - 1, True


# Used in the background's event loop alone.
_scopes: OrderedDict[tuple[Any, ...], _Numbers] = OrderedDict()
_lineages: OrderedDict[tuple[UUID, int], list[FlowRun]] = OrderedDict()


def _numbers(scope: list[Any]) -> _Numbers:
    numbers = _scopes.setdefault(tuple(scope), _Numbers())
    _scopes.move_to_end(tuple(scope))
    while len(_scopes) > _MOST_SCOPES:
        _scopes.popitem(last=False)
    return numbers


async def lineage_of(flow_run: FlowRun) -> list[FlowRun]:
    """Return a flow run and those that it runs in, in this process, the innermost first.

    One that Prefect runs from a deployment has a process of its own, and ends the line.
    """
    if flow_run.parent_task_run_id is None or flow_run.deployment_id is not None:
        return [flow_run]
    known = _lineages.get((flow_run.id, flow_run.run_count))
    if known is None:
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            task_run = await client.read_task_run(flow_run.parent_task_run_id)
            parent = await client.read_flow_run(task_run.flow_run_id) if task_run.flow_run_id else None
        known = [flow_run, *(await lineage_of(parent) if parent else [])]
        # A run of a flow happens in one run of its parent, so this stays true.
        _lineages[flow_run.id, flow_run.run_count] = known
        while len(_lineages) > _MOST_SCOPES:
            _lineages.popitem(last=False)
    return known


def _has_run_before(flow_run: FlowRun) -> bool:
    """Whether an earlier process may have made this run's calls. One that was suspended keeps its count."""
    return flow_run.run_count > 1 or bool(flow_run.empirical_policy.pause_keys)


def _enclosing(own: bool) -> list[BaseTransaction]:
    """Return the transactions that this call is made in: Prefect gives one to each try of a task.

    :param own: whether the innermost belongs to the caller, which is known by its task run
    """
    from prefect.transactions import get_transaction

    found = []
    transaction = get_transaction()
    while transaction is not None:
        found.append(transaction)
        transaction = transaction.get_parent()
    return found[1:] if own else found


def digest_of(connection: Connection, system: str, spec: JobSpec) -> str:
    """Stand for what a call asks for."""
    parts = (connection.url, system, spec.to_mapping())
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]
