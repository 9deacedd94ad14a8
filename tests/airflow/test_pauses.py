"""What fails is tried ever more seldom, and said once."""

from __future__ import annotations

import pytest

from airflow_provider_firecrest.cancellation import pauses
from airflow_provider_firecrest.cancellation.pauses import Pauses


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(pauses.time, "monotonic", lambda: now[0])
    return now


def test_pauses_double_up_to_the_longest(clock: list[float]) -> None:
    one = Pauses(60.0, 3600.0)
    attempts = []
    while clock[0] < 1000.0 + 86400:
        if one.is_due("thing"):
            attempts.append(clock[0] - 1000.0)
            assert one.failed("thing") is (len(attempts) == 1)
        clock[0] += 1.0
    assert attempts[:8] == [0, 60, 180, 420, 900, 1860, 3780, 7380]
    assert len(attempts) < 32


def test_a_success_ends_it(clock: list[float]) -> None:
    one = Pauses(60.0, 3600.0)
    assert not one.succeeded("thing")
    one.failed("thing")
    assert one.is_due("another thing")
    assert one.succeeded("thing")
    assert one.is_due("thing")
    assert one.failed("thing")


def test_what_is_gone_is_forgotten(clock: list[float]) -> None:
    one = Pauses(60.0, 3600.0)
    one.failed("gone")
    one.failed("there")
    one.keep(lambda thing: thing == "there")
    assert one.is_due("gone")
    assert not one.is_due("there")
