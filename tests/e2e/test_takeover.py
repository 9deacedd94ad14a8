"""A triggerer that was killed and is started again goes on with its jobs, without Airflow's half minute of waiting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.stack import Stack
from tests.e2e import waits
from tests.e2e.waits import Run, until


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An Airflow that takes a killed triggerer for alive as long as the test lasts."""
    patience = {"AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "3600"}
    with waits.airflow(tmp_path_factory.mktemp("takeover"), patience) as stack:
        yield stack


def test_a_triggerer_goes_on_with_the_jobs_of_the_one_that_was_killed(stack: Stack) -> None:
    triggerer = stack.airflow.service("triggerer")
    ended, going_on = runs = [Run(stack, "deferred", name) for name in ("ended", "going-on")]
    until(lambda: all(run.watched() for run in runs))
    triggerer.crash()
    ended.let_go()
    until(ended.ended)
    triggerer.start()
    until(lambda: ended.state() == "success")
    going_on.let_go()
    until(lambda: going_on.state() == "success")
    assert [len(run.began()) for run in runs] == [1, 1]
