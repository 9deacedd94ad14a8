"""The metrics of a job, as those who show them get them while it runs."""

from __future__ import annotations

import asyncio

import pytest

from firecrest_core import job_metrics
from firecrest_core.job_metrics import JobMetrics

LINES = ['{"step": %d, "loss": %d}' % (step, 10 - step) for step in range(1, 6)]  # noqa: UP031


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_metrics, "_BETWEEN_LINES", 0.2)
    monkeypatch.setattr(job_metrics, "_BETWEEN_VIEWS", 0.1)


async def test_the_last_lines_are_shown_though_no_more_come(seldom) -> None:
    told, shown = [], []
    metrics = JobMetrics(told.append, lambda seen: shown.append(seen.series["loss"].points[-1]))
    for line in LINES:
        metrics.take([line])
    assert (len(told), shown) == (1, [(1, 9)])
    async with asyncio.timeout(60):
        while len(told) < 2:
            await asyncio.sleep(0.01)
    assert shown == [(1, 9), (5, 5)]
    assert "(step 5)" in told[-1]


async def test_nothing_is_told_after_the_stop(seldom) -> None:
    told: list[str] = []
    metrics = JobMetrics(told.append, lambda seen: None)
    metrics.take(LINES[:1])
    metrics.take(LINES[1:])
    await metrics.stop()
    await asyncio.sleep(0.3)
    assert len(told) == 1
