"""What Airflow's metrics hear of jobs and requests."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from airflow.observability import stats as stats_of_core
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk.observability import stats as stats_of_task

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator


class Sent(NoStatsLogger):
    """What a metrics backend would send."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self.tags: set[tuple[str, str]] = set()
        self.component = ""

    def incr(self, stat: str, *_: Any, **more: Any) -> None:
        self.names[stat] += 1
        self.tags |= set(more.get("tags", {}).items())

    gauge = timing = incr


@pytest.fixture(params=["worker", "triggerer"])
def sent(request, monkeypatch) -> Iterator[Sent]:
    """What this process sends as a worker, or as a triggerer."""
    sent = Sent()
    stats = stats_of_task
    if request.param == "triggerer":
        stats = stats_of_core
        monkeypatch.setitem(sys.modules, "airflow.jobs.triggerer_job_runner", ModuleType("triggerer_job_runner"))
    else:
        monkeypatch.delitem(sys.modules, "airflow.jobs.triggerer_job_runner", raising=False)
    sent.component = request.param
    stats.initialize(factory=lambda: sent, export_legacy_names=True)
    yield sent
    stats.initialize(factory=NoStatsLogger, export_legacy_names=True)


def test_a_task_is_counted(connected, workdir, run_task, sent) -> None:
    run_task(
        lambda: FirecRESTSubmitOperator(task_id="job", command="sleep 2", working_dir=str(workdir), poll_interval=0.2)
    )
    assert {f"firecrest.{name}" for name in ("requests", "request", "poll")} <= set(sent.names)
    assert ("status", "200") in sent.tags
    assert ("method", "POST") in sent.tags


def test_only_a_triggerer_tells_how_many_jobs_there_are(connected, workdir, run_task, sent) -> None:
    run_task(lambda: FirecRESTSubmitOperator(task_id="job", command="sleep 2", working_dir=str(workdir)))
    gauges = {"firecrest.jobs.waiting", "firecrest.jobs.running"} & set(sent.names)
    assert len(gauges) == (2 if sent.component == "triggerer" else 0)
    assert any(name == "hostname" for name, _ in sent.tags) == bool(gauges)
