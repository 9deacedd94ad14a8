"""The page *HPC Jobs* in a browser with 10,000 jobs, and when what it shows goes away."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from firecrest_core.jobs.snapshot import JobSnapshot
from firecrest_core.states import JobState
from harness.airflow.stack import AirflowStack
from tests.e2e.hpc_jobs_page import EVIL, open_table
from tests.e2e.stored_jobs import TASK, StoredJobs

if TYPE_CHECKING:
    from playwright.sync_api import Page

RUNS, JOBS_OF_A_RUN = 200, 50
ROWS = "table.jobs tbody tr"


def job(number: int, name: str, **fields: object) -> JobSnapshot:
    now = int(time.time())
    states = (JobState.COMPLETED, JobState.FAILED)
    times = {"submitted_at": now - 20_000 + number, "started_at": now - 600, "ended_at": now - 60, "time_limit": 7200}
    usual = {"state": states[number % 2], "connection_id": "firecrest_default", "node_hours": 1.0, "seen_at": now}
    return JobSnapshot(job_id=str(1_000_000 + number), system="daint", name=name, **{**usual, **times, **fields})


@pytest.fixture(scope="module")
def stored(stack: AirflowStack) -> Iterator[StoredJobs]:
    """Jobs that a test stores."""
    stored = StoredJobs(stack)
    yield stored
    stored.delete_all()


@pytest.fixture(scope="module")
def many(stored: StoredJobs) -> None:
    """10,000 jobs in 200 runs of four DAGs."""
    numbers = range(RUNS)
    stored.add_all(
        [
            (
                f"bulk_{run % 4}",
                f"bulk-{run}",
                [job(run * JOBS_OF_A_RUN + index, f"bulk-{run:03}-{index:02}") for index in range(JOBS_OF_A_RUN)],
            )
            for run in numbers
        ]
    )


@pytest.mark.usefixtures("many")
def test_ten_thousand_jobs(page: Page, stack: AirflowStack) -> None:
    table = open_table(page, stack)
    table.locator(ROWS).nth(49).wait_for()  # what there is so far is shown at once
    table.locator("#jobs:not(:has([data-incomplete]))").wait_for()
    assert table.locator(ROWS).count() == 50
    table.get_by_label("Search").fill("bulk")
    table.get_by_label("Search").press("Enter")
    table.get_by_text("1–50 of 10000").wait_for()
    table.get_by_label("State", exact=True).select_option("FAILED")
    table.get_by_text("1–50 of 5000").wait_for()
    assert set(table.locator(f"{ROWS} .state").all_inner_texts()) == {"FAILED"}
    # By keyboard: sort, the next page, the last one, and back.
    table.get_by_role("link", name="Job", exact=True).press("Enter")
    table.locator("th[aria-sort=ascending]", has_text="Job").wait_for()
    table.get_by_role("link", name="bulk-000-01").wait_for()
    table.get_by_role("link", name="Next").press("Enter")
    table.get_by_text("51–100 of 5000").wait_for()
    table.get_by_role("link", name="bulk-002-01").wait_for()
    table.get_by_role("link", name="Last").press("Enter")
    table.get_by_text("4951–5000 of 5000").wait_for()
    table.get_by_role("link", name="bulk-199-49").wait_for()
    assert table.get_by_role("link", name="Next").count() == 0
    table.get_by_role("link", name="First").press("Enter")
    table.get_by_text("1–50 of 5000").wait_for()


@pytest.mark.usefixtures("many")
def test_a_page_of_many_jobs_is_no_larger_than_one_of_few(page: Page, stack: AirflowStack) -> None:
    def size(query: str) -> tuple[int, int]:
        answer = page.context.request.get(f"{stack.airflow.url}/firecrest/jobs?{query}")
        assert answer.ok
        return len(answer.body()), int(re.findall(r"–\d+ of (\d+)", answer.text())[0])

    few, of_few = size("dag_id=bulk_0&text=bulk-000")
    many, of_many = size("text=bulk")
    assert (of_few, of_many) == (JOBS_OF_A_RUN, RUNS * JOBS_OF_A_RUN)
    assert many < 1.5 * few


def test_a_run_that_is_deleted_while_its_jobs_are_looked_at(
    page: Page, stack: AirflowStack, stored: StoredJobs
) -> None:
    stored.add("short_lived", "short", [job(1, "short-lived", node_hours=None)])
    address = f"{stack.airflow.url}/firecrest/jobs"
    page.goto(f"{address}?dag_id=short_lived")
    page.get_by_role("link", name="short-lived").wait_for()
    with page.context.new_page() as other:
        other.goto(f"{address}/short_lived/short/{TASK}/0/1000001")
        other.get_by_role("heading", name="short-lived").wait_for()
        stored.delete("short_lived")
        other.get_by_text("This page is not up to date. There is no job 1000001 of this task").wait_for()
    page.get_by_text("No jobs yet.").wait_for()


def test_a_job_whose_connection_is_gone(page: Page, stack: AirflowStack, stored: StoredJobs) -> None:
    stored.add("orphaned", "orphaned", [job(2, EVIL, connection_id="no_such", stdout="/scratch/out.txt", reason=EVIL)])
    page.goto(f"{stack.airflow.url}/firecrest/jobs/orphaned/orphaned/{TASK}/0/1000002")
    page.get_by_role("heading", name="<script>").wait_for()
    page.get_by_text("finds no connection 'no_such'").wait_for()
    page.goto(f"{stack.airflow.url}/firecrest/jobs?dag_id=orphaned")
    page.get_by_role("link", name="<script>").wait_for()
    page.reload()  # the systems of new jobs are asked once a minute
    page.locator("#systems").get_by_text("finds no connection 'no_such'").wait_for()
    assert page.evaluate("window.owned") is None
