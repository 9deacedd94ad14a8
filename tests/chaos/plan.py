"""The cases of a test run: drawn from a seed, so that the same seed gives the same cases."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

#: Phases of a task's life, in their order. The gateway holds a request in the first two and the last of them.
PHASES = (
    "before_post",  # the worker has sent the submission, FirecREST has not received it
    "posting",  # the job is in the queue, the worker has not received the answer
    "recording",  # the worker has received the answer and has not stored the job id
    "deferring",  # the task is deferred, no trigger watches its job yet
    "queued",
    "running",
    "job_ended",  # the payload has ended, the task has not
    "fetching",  # the next task downloads the result
)
WORKER_EVENTS = ("worker_kill", "supervisor_kill", "process_kill", "worker_stop", "worker_pause")
TRIGGERER_EVENTS = ("triggerer_kill", "triggerer_stop", "triggerer_pause")
SCHEDULER_EVENTS = ("scheduler_kill", "scheduler_stop", "scheduler_pause")
SERVER_EVENTS = ("server_kill", "server_pause")
ANSWER_FAULTS = ("lost_answer", "timeout_408", "duplicate", "silent_sbatch", "missing_job_id")
FAULTS = ("burst_5xx", "outage")
#: Answers of gateways, shells and schedulers: the embedded server's kinds of faults.
ODD_ANSWERS = ("gateway_page", "home_noise", "file_error", "sbatch_error", "list_error")
CLEARS = ("clear", "clear_run")
USER_ACTIONS = ("mark_failed", "mark_success", "clear", "clear_run", "delete_run")


@dataclass(frozen=True)
class Event:
    """A kill, a fault or a user's action.

    :param kind: one of the names above
    :param delay: seconds after the phase was reached, or after the previous event
    :param seconds: how long a component is down, or a fault lasts
    :param with_children: whether a kill includes the component's children
    """

    kind: str
    delay: float
    seconds: float
    with_children: bool


@dataclass(frozen=True)
class Case:
    """One run of a DAG and its events.

    :param number: from 0
    :param deferrable: whether its task waits in the triggerer
    :param array: whether its job is an array
    :param fetch: whether a task follows that downloads the result
    :param fails_once: whether the payload fails when it runs for the first time
    :param phase: the phase in which the events happen
    :param events: one or two events
    """

    number: int
    deferrable: bool
    array: bool
    fetch: bool
    fails_once: bool
    phase: str
    events: tuple[Event, ...]

    @property
    def run_id(self) -> str:
        """The id of the DAG run. It is also the name of the job's directory, by which the gateway knows the case."""
        return f"case{self.number:04}"

    @property
    def dag_id(self) -> str:
        """The id of its DAG."""
        return dag_id(self.deferrable, self.array, self.fetch)

    @property
    def user_action(self) -> str | None:
        """The kind of its event that is a user's action; None if there is none."""
        return next((event.kind for event in self.events if event.kind in USER_ACTIONS), None)

    def __str__(self) -> str:
        features = [
            "deferred" if self.deferrable else "in the worker",
            *["array"] * self.array,
            *["fetch"] * self.fetch,
            *["fails once"] * self.fails_once,
        ]
        events = ", ".join(
            f"{event.kind}{' (with children)' * event.with_children} "
            f"after {event.delay:.1f} s for {event.seconds:.1f} s"
            for event in self.events
        )
        return f"{self.run_id} ({', '.join(features)}) {self.phase}: {events}"


def dag_id(deferrable: bool, array: bool, fetch: bool) -> str:
    """Return the id of the DAG of a variant."""
    return "_".join(
        ["deferred" if deferrable else "worker", "array" if array else "single", *(["fetch"] if fetch else [])]
    )


def possible_events(phase: str, deferrable: bool) -> Iterator[str]:
    """Return the kinds of events that are possible in a phase."""
    if not deferrable or phase in ("before_post", "posting", "recording", "fetching"):
        yield from WORKER_EVENTS
    if deferrable and phase in ("deferring", "queued", "running", "job_ended"):
        yield from TRIGGERER_EVENTS
    yield from SCHEDULER_EVENTS
    yield from SERVER_EVENTS
    yield from FAULTS
    yield from ODD_ANSWERS
    yield from USER_ACTIONS
    if phase == "posting":
        yield from ANSWER_FAULTS


def combinations() -> list[tuple[bool, str, str]]:
    """Return every possible (deferrable, phase, kind of event)."""
    return [
        (deferrable, phase, kind)
        for deferrable in (True, False)
        for phase in PHASES
        if deferrable or phase != "deferring"
        for kind in possible_events(phase, deferrable)
    ]


def plan(cases: int, seed: int) -> list[Case]:
    """Draw the cases.

    The first cases of a seed are the same for any number of cases. Every combination of `combinations` is drawn once
    before one is drawn again.
    """
    rng = random.Random(seed)
    return [_case(number, *each, rng) for number, each in zip(range(cases), _shuffled_combinations(rng), strict=False)]


def sabotage_cases() -> list[Case]:
    """Return cases that double or orphan a job if it is submitted without a claim."""
    kinds = ("lost_answer", "duplicate", "worker_kill", "mark_failed", "clear")
    return [
        Case(number, True, False, False, False, "posting", (Event(kind, 0.1, 1.0, with_children=True),))
        for number, kind in enumerate(kinds)
    ]


def _shuffled_combinations(rng: random.Random) -> Iterator[tuple[bool, str, str]]:
    # Its own generator, so that the order does not depend on how many numbers a case draws.
    own = random.Random(rng.random())
    for _ in itertools.count():
        order = combinations()
        own.shuffle(order)
        yield from order


def _case(number: int, deferrable: bool, phase: str, kind: str, rng: random.Random) -> Case:
    kinds = [kind]
    if rng.random() < 0.4:
        # A user acts while a component is down, or a component fails while a user's action is carried out.
        others = [
            other for other in possible_events(phase, deferrable) if (other in USER_ACTIONS) != (kind in USER_ACTIONS)
        ]
        kinds.insert(rng.randint(0, 1) if kind not in USER_ACTIONS else 0, rng.choice(others))
    return Case(
        number=number,
        deferrable=deferrable,
        array=rng.random() < 0.25,
        fetch=phase == "fetching" or rng.random() < 0.3,
        fails_once=phase not in ("job_ended", "fetching") and rng.random() < 0.2,
        phase=phase,
        events=tuple(_event(kind, rng) for kind in kinds),
    )


def _event(kind: str, rng: random.Random) -> Event:
    longest = {"worker_pause": 30.0, "burst_5xx": 6.0, "outage": 8.0}.get(kind, 8.0)
    return Event(
        kind,
        delay=round(rng.uniform(0, 1.5) ** 2, 2),
        seconds=round(rng.uniform(0.5, longest), 1),
        with_children=kind.endswith("_kill") and rng.random() < 0.5,
    )
