"""The cases of a test run: drawn from a seed, so that the same seed gives the same cases."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

#: Steps that a payload takes until its work is done.
STEPS = (5, 9)
#: Jobs of one task that do not finish the work, at most; of an array, the jobs of one element.
_MOST_ENDS = 3
_ELEMENTS = (3, 5)


class Kind(StrEnum):
    """What a task is."""

    CHAIN = "chain"
    ESCALATION = "escalation"
    ARRAY = "array"
    ARRAY_CHAIN = "array_chain"

    @property
    def is_array(self) -> bool:
        """Whether its job has elements."""
        return self in (Kind.ARRAY, Kind.ARRAY_CHAIN)

    @property
    def is_chain(self) -> bool:
        """Whether its jobs go on from checkpoints."""
        return self in (Kind.CHAIN, Kind.ARRAY_CHAIN)


class End(StrEnum):
    """How a job ends that does not finish the work."""

    SIGNAL = "signal"  # it stops at the signal before its time limit
    LIMIT = "limit"  # it ignores that signal
    MEMORY = "memory"
    NODE = "node"
    EXIT = "exit"  # it fails by itself, which the engine's retries are for
    IDLE = "idle"  # it ends well without having taken a step


ENDS = {
    Kind.CHAIN: (End.SIGNAL, End.LIMIT, End.NODE, End.MEMORY),
    Kind.ESCALATION: (End.LIMIT, End.NODE, End.MEMORY),
    Kind.ARRAY: (End.EXIT, End.NODE, End.MEMORY),
    Kind.ARRAY_CHAIN: (End.SIGNAL, End.LIMIT, End.NODE, End.MEMORY, End.IDLE),
}


@dataclass(frozen=True)
class Unfinished:
    """A job that does not finish the work.

    :param end: how it ends
    :param steps: the steps that it takes before
    """

    end: End
    steps: int

    def __str__(self) -> str:
        return f"{self.end}:{self.steps}"


class Moment(StrEnum):
    """What the time of a kill is counted in."""

    SECONDS = "seconds"
    BEFORE_CHANGE = "before_change"  # requests that change something: the kill comes before this one is sent
    AFTER_CHANGE = "after_change"


@dataclass(frozen=True)
class Kill:
    """What happens to a process that submits or waits.

    :param moment: what ``at`` counts
    :param at: seconds since its start, or the number of the request, from 1
    :param pauses: it is stopped instead and goes on when its successor has been killed, as a process does whose
        machine hung and that its engine took for dead
    """

    moment: Moment
    at: float
    pauses: bool = False

    def __str__(self) -> str:
        return f"{'pause' if self.pauses else 'kill'} at {self.at:g} {self.moment}"


@dataclass(frozen=True)
class Case:
    """One task.

    :param number: from 0
    :param kind: what it is
    :param steps: those of the whole work; of an array, of each element
    :param ends: of each element the jobs that do not finish its work; any other task has one element
    :param kills: what happens to the processes that submit and wait, one after the other
    :param reads_claims: whether a process that comes after a kill begins with what the claims say, as an engine's
        worker does, or with the job that was stored first, as its triggerer does
    :param cancelled_after: the number of kills after which a person cancels the task; ``None`` for never
    :param cancel_kills: what happens to the processes that cancel
    :param ahead: the next job of the chain is submitted while one runs
    """

    number: int
    kind: Kind
    steps: int
    ends: tuple[tuple[Unfinished, ...], ...]
    kills: tuple[Kill, ...]
    reads_claims: bool = True
    cancelled_after: int | None = None
    cancel_kills: tuple[Kill, ...] = ()
    ahead: bool = False

    @property
    def name(self) -> str:
        """The name of its jobs and of their directory."""
        return f"case{self.number:04}"

    @property
    def elements(self) -> tuple[str, ...]:
        """Its elements, as its payloads name them."""
        return tuple(map(str, range(len(self.ends)))) if self.kind.is_array else ("-",)

    def __str__(self) -> str:
        ends = " | ".join(" ".join(map(str, jobs)) or "done" for jobs in self.ends)
        kills = ", ".join(map(str, self.kills))
        cancel = "" if self.cancelled_after is None else f", cancelled after {self.cancelled_after}"
        kind = f"{self.kind}, ahead," if self.ahead else self.kind
        return f"{self.name} ({kind} of {self.steps}: {ends}): {kills}{cancel}"


def plan(cases: int, seed: int) -> list[Case]:
    """Draw the cases. The first cases of a seed are the same for any number of cases."""
    return [_case(number, random.Random(f"{seed}/{number}")) for number in range(cases)]


def sabotage_cases() -> list[Case]:
    """Return cases that double, repeat or orphan a job if each process ignores the claims and causes of others."""
    after_post, between = Kill(Moment.AFTER_CHANGE, 1), Kill(Moment.AFTER_CHANGE, 2)
    stopped = (Unfinished(End.SIGNAL, 2),)
    return [
        Case(0, Kind.CHAIN, 8, (stopped,), (after_post,)),
        Case(1, Kind.ESCALATION, 8, ((Unfinished(End.NODE, 1),),), (between,)),
        Case(2, Kind.ARRAY, 8, ((), ()), (after_post,)),
        Case(3, Kind.ARRAY, 80, ((), ()), (after_post,), cancelled_after=1),
    ]


def _case(number: int, rng: random.Random) -> Case:
    kind = rng.choice(list(Kind))
    elements = rng.randint(*_ELEMENTS) if kind.is_array else 1
    kills = tuple(_kill(rng) for _ in range(rng.randint(1, 5)))
    cancelled = rng.random() < 0.25
    return Case(
        number=number,
        kind=kind,
        steps=rng.randint(*STEPS),
        ends=tuple(_ends(kind, rng) for _ in range(elements)),
        kills=kills,
        reads_claims=rng.random() < 0.6,
        cancelled_after=rng.randint(1, len(kills)) if cancelled else None,
        cancel_kills=tuple(_kill(rng, longest=0.6) for _ in range(rng.randint(0, 2))) if cancelled else (),
        ahead=kind is Kind.CHAIN and rng.random() < 0.6,
    )


def _ends(kind: Kind, rng: random.Random) -> tuple[Unfinished, ...]:
    fewest = 0 if kind.is_array else 1
    ends = rng.sample(ENDS[kind], rng.randint(fewest, _MOST_ENDS))
    return tuple(Unfinished(end, 0 if end is End.IDLE else rng.randint(1, 3)) for end in ends)


def _kill(rng: random.Random, longest: float = 6.0) -> Kill:
    if rng.random() < 0.4:
        return Kill(rng.choice((Moment.BEFORE_CHANGE, Moment.AFTER_CHANGE)), rng.randint(1, 4))
    seconds = round(min(rng.expovariate(3 / longest), longest), 2)
    return Kill(Moment.SECONDS, seconds, pauses=longest > 1 and rng.random() < 0.25)
