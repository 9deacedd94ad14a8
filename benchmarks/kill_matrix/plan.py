"""What happens in each case: drawn from a seed, so that a seed is a plan."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

#: Phases of a task's life, in their order. The first three and the last are held open by the gateway.
PHASES = (
    "before_post",  # the worker has begun to submit, the scheduler has seen nothing
    "posting",  # the job is in the queue, the answer is on its way
    "recording",  # the answer has arrived, nothing is stored yet
    "deferring",  # the task is deferred, no trigger watches its job yet
    "queued",
    "running",
    "ending",  # the payload has ended, the task has not
    "fetching",  # the task that follows downloads the result
)
WORKER_EVENTS = ("worker_kill", "supervisor_kill", "process_kill", "worker_stop", "worker_pause")
TRIGGERER_EVENTS = ("triggerer_kill", "triggerer_stop", "triggerer_pause")
SCHEDULER_EVENTS = ("scheduler_kill", "scheduler_stop", "scheduler_pause")
SERVER_EVENTS = ("server_kill", "server_pause")
ANSWER_FAULTS = ("lost_answer", "timeout_408", "duplicate")
FAULTS = ("burst_5xx", "outage")
CLEARS = ("clear", "clear_run")
ACTS = ("mark_failed", "mark_success", "clear", "clear_run", "delete_run")


@dataclass(frozen=True)
class Event:
    """Something that happens.

    Parameters:
        kind: its name, one of the lists above.
        delay: seconds after the phase was reached, or after the event before it.
        seconds: how long a component is away, or a fault lasts.
        whole: a kill takes the component's children, too.
    """

    kind: str
    delay: float
    seconds: float
    whole: bool


@dataclass(frozen=True)
class Case:
    """One run of a DAG, and what happens to it.

    Parameters:
        number: from 0.
        deferrable: whether its task waits in the triggerer.
        array: whether its job is an array.
        fetch: whether a download follows.
        fails_once: whether the payload fails when it runs for the first time.
        phase: in which the events happen.
        events: one or two.
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
        """Also the name of the job's directory, by which requests are known as the case's."""
        return f"case{self.number:04}"

    @property
    def dag_id(self) -> str:
        """The DAG that is run."""
        return dag_id(self.deferrable, self.array, self.fetch)

    @property
    def act(self) -> str | None:
        """What a person does, if one does."""
        return next((event.kind for event in self.events if event.kind in ACTS), None)

    def __str__(self) -> str:
        features = [
            "deferred" if self.deferrable else "in the worker",
            *["array"] * self.array,
            *["fetch"] * self.fetch,
            *["fails once"] * self.fails_once,
        ]
        events = ", ".join(
            f"{event.kind}{' (whole)' * event.whole} after {event.delay:.1f} s for {event.seconds:.1f} s"
            for event in self.events
        )
        return f"{self.run_id} ({', '.join(features)}) {self.phase}: {events}"


def dag_id(deferrable: bool, array: bool, fetch: bool) -> str:
    """Name a variant of the DAG."""
    return "_".join(
        ["deferred" if deferrable else "worker", "array" if array else "single", *(["fetch"] if fetch else [])]
    )


def events_in(phase: str, deferrable: bool) -> Iterator[str]:
    """What can happen in a phase."""
    if not deferrable or phase in ("before_post", "posting", "recording", "fetching"):
        yield from WORKER_EVENTS
    if deferrable and phase in ("deferring", "queued", "running", "ending"):
        yield from TRIGGERER_EVENTS
    yield from SCHEDULER_EVENTS
    yield from SERVER_EVENTS
    yield from FAULTS
    yield from ACTS
    if phase == "posting":
        yield from ANSWER_FAULTS


def pairs() -> list[tuple[bool, str, str]]:
    """Every (deferrable, phase, event) that makes sense."""
    return [
        (deferrable, phase, kind)
        for deferrable in (True, False)
        for phase in PHASES
        if deferrable or phase != "deferring"
        for kind in events_in(phase, deferrable)
    ]


def plan(cases: int, seed: int) -> list[Case]:
    """Draw the cases; a longer plan begins with the shorter one.

    Every pair of a phase and an event comes once before one comes again.
    """
    dice = random.Random(seed)
    return [_case(number, *pair, dice) for number, pair in zip(range(cases), _shuffled_for_ever(dice), strict=False)]


def betrayals() -> list[Case]:
    """What doubles a job, or leaves one behind, unless it is submitted with a claim."""
    kinds = ("lost_answer", "duplicate", "worker_kill", "mark_failed", "clear")
    return [
        Case(number, True, False, False, False, "posting", (Event(kind, 0.1, 1.0, whole=True),))
        for number, kind in enumerate(kinds)
    ]


def _shuffled_for_ever(dice: random.Random) -> Iterator[tuple[bool, str, str]]:
    own = random.Random(dice.random())  # so that the number of dice rolled for a case does not matter
    for _ in itertools.count():
        deck = pairs()
        own.shuffle(deck)
        yield from deck


def _case(number: int, deferrable: bool, phase: str, kind: str, dice: random.Random) -> Case:
    kinds = [kind]
    if dice.random() < 0.4:
        # A person acts while something is broken, or something breaks while a person's act is carried out.
        others = [other for other in events_in(phase, deferrable) if (other in ACTS) != (kind in ACTS)]
        kinds.insert(dice.randint(0, 1) if kind not in ACTS else 0, dice.choice(others))
    return Case(
        number=number,
        deferrable=deferrable,
        array=dice.random() < 0.25,
        fetch=phase == "fetching" or dice.random() < 0.3,
        fails_once=phase not in ("ending", "fetching") and dice.random() < 0.2,
        phase=phase,
        events=tuple(_event(kind, dice) for kind in kinds),
    )


def _event(kind: str, dice: random.Random) -> Event:
    longest = {"worker_pause": 30.0, "burst_5xx": 6.0, "outage": 8.0}.get(kind, 8.0)
    return Event(
        kind,
        delay=round(dice.uniform(0, 1.5) ** 2, 2),
        seconds=round(dice.uniform(0.5, longest), 1),
        whole=kind.endswith("_kill") and dice.random() < 0.5,
    )
