"""Pauses after failures: they grow, and what is said is the first failure and the success after it."""

from __future__ import annotations

import pytest

from firecrest_core import pauses
from firecrest_core.pauses import Pauses


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pauses, "time", clock)
    return clock


def test_the_pauses_double_up_to_the_longest(clock: Clock) -> None:
    some, lengths = Pauses(60.0, 3600.0), []
    for _ in range(9):
        some.failed("it")
        begun = clock.now
        while not some.is_due("it"):
            clock.now += 1
        lengths.append(clock.now - begun)
    assert lengths == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_the_first_failure_and_the_success_are_to_be_said(clock: Clock) -> None:
    some = Pauses(60.0, 3600.0)
    assert [some.succeeded("it"), some.failed("it"), some.failed("it"), some.succeeded("it")] == [
        False,
        True,
        False,
        True,
    ]
    assert some.is_due("it")


def test_each_thing_has_its_own(clock: Clock) -> None:
    some = Pauses(60.0, 3600.0)
    some.failed("it")
    assert some.is_due("another")
    some.keep(lambda thing: thing == "another")
    assert some.is_due("it")
