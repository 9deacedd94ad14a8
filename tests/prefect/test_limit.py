"""At most N jobs at the same time, by a global concurrency limit of Prefect's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency

from prefect_firecrest import FirecRESTJob, submit_job, wait_for_job

SIZE, LIMIT = 5, 2


@pytest.fixture
def limit() -> Iterator[str]:
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="rig", limit=LIMIT))
        yield "rig"
        client.delete_global_concurrency_limit_by_name("rig")


def most_at_once(path: Path) -> int:
    """Return how many jobs were there at the same time, from lines such as ``+1 1700000000.5``."""
    moments = sorted((float(at), int(step)) for step, at in map(str.split, path.read_text().splitlines()))
    return max(sum(step for _, step in moments[: number + 1]) for number in range(len(moments)))


def test_never_more_jobs_than_the_limit(make, workdir, limit) -> None:
    @task
    def point(job: FirecRESTJob) -> str:
        with concurrency(limit, strict=True):
            return wait_for_job(submit_job(job)).job_id

    @flow
    def sweep() -> list[str]:
        begin, end = (f"echo {step} $(date +%s.%N) >> moments" for step in ("+1", "-1"))
        # The first one waits for a second one, however slow the machine is.
        command = f"{begin}; until [ $(grep -c + moments) -ge {LIMIT} ]; do sleep 0.1; done; sleep 1; {end}"
        return point.map([make(command, name=f"p{number}") for number in range(SIZE)]).result()

    assert len(set(sweep())) == SIZE
    assert most_at_once(workdir / "moments") == LIMIT
