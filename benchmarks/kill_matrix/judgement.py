"""The verdict on a case that has come to its end: was a payload doubled, a job orphaned, a result lost?"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass

import httpx

from kill_matrix.life import GONE, Story
from kill_matrix.observation import Payload
from kill_matrix.plan import CLEARS
from kill_matrix.site import Site

SOON = 10.0  # seconds in which a person's wish is to be carried out
_FAILED_ITSELF = 1


@dataclass(frozen=True)
class Violation:
    """What must not happen, and did.

    Parameters:
        kind: `doubled`, `orphaned`, `lost`, `late` for a job that was gone, but not within ten seconds, or what the
            documentation excepts: `unseen` for a job whose run was deleted before any triggerer had seen it,
            `forgotten` for a clear that left no trace in Airflow, so that the task went on with its job.
    """

    kind: str
    text: str


def judge(site: Site, story: Story) -> list[Violation]:
    """Find everything that must not have happened."""
    return [*_doubled(story), *_orphaned(story), *_lost(site, story)]


def _doubled(story: Story) -> list[Violation]:
    found = []
    lines: dict[tuple[int, str], list[Payload]] = defaultdict(list)
    for payload in sorted(story.sight.payloads, key=lambda payload: payload.began):
        lines[payload.epoch, payload.element].append(payload)
    for (epoch, _), payloads in lines.items():
        for before, after in itertools.pairwise(payloads):
            if before.code != _FAILED_ITSELF:
                found.append(Violation("doubled", f"twice for epoch {epoch}: {before}; {after}"))
    epochs = sorted({payload.epoch for payload in story.sight.payloads})
    if len(epochs) > 1 + bool(set(CLEARS) & set(story.happened)):
        found.append(Violation("doubled", f"payloads of the epochs {epochs}, and nobody asked for so many"))
    for one, other in itertools.combinations(story.sight.payloads, 2):
        if one.job_id != other.job_id and one.epoch != other.epoch:
            first, second = sorted((one, other), key=lambda payload: payload.began)
            if first.ended is None or second.began < first.ended:
                found.append(Violation("doubled", f"alive at the same time: {first}; {second}"))
    return found


def _orphaned(story: Story) -> list[Violation]:
    sight = story.sight
    found = []
    kind = "forgotten" if _forgotten(story) else "unseen" if story.unseen else "orphaned"
    if story.left_over:
        found.append(Violation(kind, f"still alive {GONE:g} s after a person's act"))
    elif story.cancel_seconds is not None and story.cancel_seconds > SOON:
        found.append(Violation("late", f"gone {story.cancel_seconds:.1f} s after a person's act"))
    if story.act_at is not None:
        for payload in sight.payloads:
            if payload.epoch <= story.doomed and payload.began > story.wanted_gone + SOON:
                found.append(Violation(kind, f"began long after a person's act: {payload}"))
    if sight.over:
        found += [Violation("orphaned", f"runs although its task has ended: {payload}") for payload in sight.running]
    return found


def _forgotten(story: Story) -> bool:
    """Whether a task was cleared while it ran, and Airflow never counted that: its worker's end went unheard."""
    return (
        story.act_at is not None
        and story.case.act in CLEARS
        and story.max_tries is not None
        and story.sight.job.get("max_tries") == story.max_tries
    )


def _lost(site: Site, story: Story) -> list[Violation]:
    case, sight = story.case, story.sight
    states = {task_id: task["state"] for task_id, task in sight.tasks.items()}
    if case.act in story.happened and case.act == "delete_run":
        return [] if sight.deleted else [Violation("lost", f"the run was deleted and is there: {states}")]
    if story.hung:
        return [
            Violation("lost", f"did not come to an end: {states}, payloads {[str(each) for each in sight.payloads]}")
        ]
    wanted = None
    if case.act in story.happened and case.act in ("mark_failed", "mark_success"):
        wanted = case.act.removeprefix("mark_")
        task_id = "job" if story.act_at is not None else "fetch"
        if states.get(task_id) != wanted:
            return [Violation("lost", f"marked {wanted} and yet {states}")]
        if task_id == "job":
            return []
    elif set(states.values()) != {"success"}:
        return [Violation("lost", f"{states} on try {sight.job.get('try_number')}")]
    epoch = max((payload.epoch for payload in sight.payloads), default=0)
    if story.act_at is not None and epoch <= story.doomed:
        kind = "forgotten" if _forgotten(story) else "lost"
        return [Violation(kind, f"cleared, and yet nothing ran after epoch {epoch}")]
    good = [payload for payload in sight.payloads if payload.epoch == epoch and payload.code == 0]
    elements = {"0", "1", "2"} if case.array else {"-"}
    if {payload.element for payload in good} != elements:
        return [Violation("lost", f"{states}, but what ended well of epoch {epoch} is {[str(p) for p in good]}")]
    try:
        result = site.api.xcom(case.dag_id, case.run_id, "job")
    except httpx.HTTPStatusError as error:
        return [Violation("lost", f"successful without a result: {error}")]
    if not isinstance(result, dict) or result.get("job_id") not in {payload.job_id for payload in good}:
        return [Violation("lost", f"the result is not that of the job which ran: {result}")]
    if case.fetch and wanted is None and not (site.results / case.run_id).exists():
        return [Violation("lost", "the result was fetched and is not there")]
    return []
