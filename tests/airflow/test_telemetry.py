"""What Airflow's metrics hear of jobs and requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk.observability import stats

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator


class Sent(NoStatsLogger):
    """What a metrics backend would send."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self.tags: set[tuple[str, str]] = set()

    def incr(self, stat: str, *_: Any, **more: Any) -> None:
        self.names[stat] += 1
        self.tags |= set(more.get("tags", {}).items())

    gauge = timing = incr


@pytest.fixture
def sent() -> Iterator[Sent]:
    sent = Sent()
    stats.initialize(factory=lambda: sent, export_legacy_names=True)
    yield sent
    stats.initialize(factory=NoStatsLogger, export_legacy_names=True)


def test_a_task_is_counted(connected, workdir, run_task, sent) -> None:
    run_task(
        lambda: FirecRESTSubmitOperator(task_id="job", command="sleep 2", working_dir=str(workdir), poll_interval=0.2)
    )
    expected = {f"firecrest.{name}" for name in ("requests", "request", "jobs.waiting", "jobs.running", "poll")}
    assert expected <= set(sent.names)
    assert ("status", "200") in sent.tags
    assert ("method", "POST") in sent.tags
