"""Checking a case that has ended for doubled payloads, orphaned jobs and lost results."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from dataclasses import dataclass

import httpx

from tests.chaos.case_run import GONE_TIMEOUT, CaseResult
from tests.chaos.observation import Payload
from tests.chaos.plan import CLEARS
from tests.chaos.testbed import SETTLED_AFTER, Testbed

CANCELLED_WITHIN = 10.0  # seconds in which a user's action has to be carried out
_FAILED_BY_ITSELF = 1


@dataclass(frozen=True)
class Violation:
    """Something that must not happen.

    :param kind: `doubled`, `orphaned`, `lost`; `left` for claims that a successful task has left; `late` for a job that
        was gone later than after ten seconds; or one of the documented exceptions: `deleted_unnoticed` for a job whose
        run was deleted before a triggerer had read it, `clear_not_recorded` for a clear that Airflow lost, so that the
        task continued with its job
    """

    kind: str
    text: str


def check(testbed: Testbed, result: CaseResult) -> list[Violation]:
    """Find all violations in a case."""
    return [*_doubled(result), *_orphaned(result), *_lost(testbed, result)]


def wait_for_removal(results: list[CaseResult]) -> dict[str, list[Violation]]:
    """Wait until the tasks that succeeded have left no claims.

    What a task leaves that a user has marked or deleted, and whose jobs were cancelled by that, goes only by age.

    :returns: run id → what is left
    """
    expected = [
        result
        for result in results
        if not result.hung
        and not {"mark_failed", "mark_success", "delete_run"} & set(result.happened)
        and result.observation.job_task.get("state") == "success"
    ]
    # One round may find a job still in the queue, or the server away; the next one comes after as long again.
    deadline = time.monotonic() + 4 * SETTLED_AFTER
    while left := [result for result in expected if _claims(result)]:
        if time.monotonic() > deadline:
            break
        time.sleep(1)
    return {
        result.case.run_id: [Violation("left", f"its task succeeded, and has left {', '.join(_claims(result))}")]
        for result in left
    }


def _claims(result: CaseResult) -> list[str]:
    return [str(path) for path in (result.observation.folder / ".firecrest").glob("*") if path.is_dir()]


def _doubled(result: CaseResult) -> list[Violation]:
    found = []
    attempts: dict[tuple[int, str], list[Payload]] = defaultdict(list)
    for payload in sorted(result.observation.payloads, key=lambda payload: payload.started):
        attempts[payload.epoch, payload.element].append(payload)
    for (epoch, _), payloads in attempts.items():
        for before, after in itertools.pairwise(payloads):
            if before.code != _FAILED_BY_ITSELF:
                found.append(Violation("doubled", f"twice for epoch {epoch}: {before}; {after}"))
    epochs = sorted({payload.epoch for payload in result.observation.payloads})
    if len(epochs) > 1 + bool(set(CLEARS) & set(result.happened)):
        found.append(Violation("doubled", f"payloads of the epochs {epochs}, more than were asked for"))
    for one, other in itertools.combinations(result.observation.payloads, 2):
        if one.job_id != other.job_id and one.epoch != other.epoch:
            first, second = sorted((one, other), key=lambda payload: payload.started)
            if first.ended is None or second.started < first.ended:
                found.append(Violation("doubled", f"alive at the same time: {first}; {second}"))
    return found


def _orphaned(result: CaseResult) -> list[Violation]:
    observation = result.observation
    found = []
    kind = "orphaned"
    if _is_clear_not_recorded(result):
        kind = "clear_not_recorded"
    elif result.deleted_unnoticed:
        kind = "deleted_unnoticed"
    if result.still_alive:
        found.append(Violation(kind, f"still alive {GONE_TIMEOUT:g} s after a user's action"))
    elif result.cancel_seconds is not None and result.cancel_seconds > CANCELLED_WITHIN:
        found.append(Violation("late", f"gone {result.cancel_seconds:.1f} s after a user's action"))
    if result.acted_at is not None:
        for payload in observation.payloads:
            if payload.epoch <= result.cancelled_epoch and payload.started > result.cancellable_at + CANCELLED_WITHIN:
                found.append(Violation(kind, f"started long after a user's action: {payload}"))
    if observation.finished:
        found += [Violation("orphaned", f"runs although its task has ended: {each}") for each in observation.running]
    return found


def _is_clear_not_recorded(result: CaseResult) -> bool:
    """Return whether a running task was cleared without an effect on `max_tries`.

    This happens when Airflow misses the end of the task's worker.
    """
    return (
        result.acted_at is not None
        and result.case.user_action in CLEARS
        and result.max_tries is not None
        and result.observation.job_task.get("max_tries") == result.max_tries
    )


def _lost(testbed: Testbed, result: CaseResult) -> list[Violation]:
    case, observation = result.case, result.observation
    states = {task_id: task["state"] for task_id, task in observation.tasks.items()}
    if case.user_action in result.happened and case.user_action == "delete_run":
        return [] if observation.deleted else [Violation("lost", f"the run was deleted and still exists: {states}")]
    if result.hung:
        payloads = [str(each) for each in observation.payloads]
        return [Violation("lost", f"did not end: {states}, payloads {payloads}")]
    marked = None
    if case.user_action in result.happened and case.user_action in ("mark_failed", "mark_success"):
        marked = case.user_action.removeprefix("mark_")
        task_id = "job" if result.acted_at is not None else "fetch"
        if states.get(task_id) != marked:
            return [Violation("lost", f"marked {marked}, but the states are {states}")]
        if task_id == "job":
            return []
    elif set(states.values()) != {"success"}:
        return [Violation("lost", f"{states} on try {observation.job_task.get('try_number')}")]
    epoch = max((payload.epoch for payload in observation.payloads), default=0)
    if result.acted_at is not None and epoch <= result.cancelled_epoch:
        kind = "clear_not_recorded" if _is_clear_not_recorded(result) else "lost"
        return [Violation(kind, f"cleared, but nothing ran after epoch {epoch}")]
    succeeded = [payload for payload in observation.payloads if payload.epoch == epoch and payload.code == 0]
    elements = {"0", "1", "2"} if case.array else {"-"}
    if {payload.element for payload in succeeded} != elements:
        payloads = [str(each) for each in succeeded]
        return [Violation("lost", f"{states}, but the payloads of epoch {epoch} that succeeded are {payloads}")]
    try:
        xcom = testbed.api.xcom(case.dag_id, case.run_id, "job")
    except httpx.HTTPStatusError as error:
        return [Violation("lost", f"successful without a result: {error}")]
    if not isinstance(xcom, dict) or xcom.get("job_id") not in {payload.job_id for payload in succeeded}:
        return [Violation("lost", f"the result is not that of the job which ran: {xcom}")]
    if case.fetch and marked is None and not (testbed.results / case.run_id).exists():
        return [Violation("lost", "the result was downloaded, but is not there")]
    return []
