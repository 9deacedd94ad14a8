"""Who sees what of the page *HPC Jobs*, in a browser: Airflow has an auth manager with rights for each DAG."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from firecrest_core.jobs.snapshot import JobSnapshot
from firecrest_core.states import JobState
from harness.airflow.stack import AirflowStack
from tests.e2e.hpc_jobs_page import open_table
from tests.e2e.rights_per_dag import HIDDEN
from tests.e2e.stored_jobs import TASK, StoredJobs

if TYPE_CHECKING:
    from playwright.sync_api import Page

THEIRS = f"{HIDDEN}dag"
POST = """async ([address, token]) => {
    const form = new URLSearchParams({ token });
    const answer = await fetch(address, { method: "POST", body: form });
    return [answer.status, await answer.text()];
}"""


def job(job_id: str, name: str, account: str, **fields: Any) -> JobSnapshot:
    now = int(time.time())
    usual = {"state": JobState.COMPLETED, "submitted_at": now - 7200, "started_at": now - 7000, "ended_at": now - 10}
    return JobSnapshot(job_id=job_id, system="daint", name=name, account=account, seen_at=now, **usual | fields)


@pytest.fixture(scope="module", autouse=True)
def _jobs(stack: AirflowStack) -> Iterator[None]:
    stored = StoredJobs(stack)
    stored.add("shown_dag", "ours", [job("57", "our-job", "our-account", node_hours=123.0)])
    stored.add(THEIRS, "theirs", [job("58", "their-job", "their-account", node_hours=4321.0)])
    waiting = job("59", "waiting-job", "our-account", state=JobState.PENDING, started_at=None, ended_at=None)
    stored.add("shown_dag", "waiting", [waiting], task_state="deferred")
    yield
    stored.delete_all()


def test_a_dag_that_is_not_theirs_is_neither_shown_nor_counted(page: Page, viewer: Page, stack: AirflowStack) -> None:
    table = open_table(page, stack)
    table.get_by_role("link", name="their-job").wait_for()
    table.get_by_role("cell", name="4,321").first.wait_for()
    seen = open_table(viewer, stack)
    seen.get_by_role("link", name="our-job").wait_for()
    seen.get_by_role("cell", name="123", exact=True).first.wait_for()
    for theirs in ("their-job", "their-account", "4,321", THEIRS):
        assert theirs not in seen.locator("body").inner_text()
    assert "their-account" not in seen.get_by_label("Account").inner_text()
    seen.get_by_label("Search").fill("their-job")
    seen.get_by_label("Search").press("Enter")
    seen.get_by_text("No job matches the filter.").wait_for()


def test_the_page_of_a_job_of_such_a_dag_is_not_found(page: Page, viewer: Page, stack: AirflowStack) -> None:
    address = f"{stack.airflow.url}/firecrest/jobs/{THEIRS}/theirs/{TASK}/0/58"
    page.goto(address)
    page.get_by_role("heading", name="their-job").wait_for()
    for path in ("", "/output", "/script", "/cancel"):
        answer = viewer.goto(f"{address}{path}")
        assert answer is not None
        assert answer.status == 404
        viewer.get_by_text("There is no job 58 of this task, or you may not see it.").wait_for()
        assert "their-job" not in viewer.content()


def test_who_may_only_read_cancels_nothing(page: Page, viewer: Page, stack: AirflowStack) -> None:
    address = f"{stack.airflow.url}/firecrest/jobs/shown_dag/waiting/{TASK}/0/59"
    page.goto(address)
    page.get_by_role("link", name="Cancel…").click()
    token = page.locator("input[name=token]").get_attribute("value")
    viewer.goto(address)
    viewer.get_by_role("heading", name="waiting-job").wait_for()
    viewer.get_by_text("PENDING").first.wait_for()
    assert viewer.get_by_role("link", name="Cancel…").count() == 0
    for sent in (token, "forged"):
        status, text = viewer.evaluate(POST, [f"{address}/cancel", sent])
        assert status == 403
        assert "You may not change the tasks of this DAG" in text
    # From another site, even an administrator's browser cancels nothing.
    page.goto(f"{stack.airflow.url.replace('127.0.0.1', 'localhost')}/api/v2/version")
    page.evaluate(f"fetch('{address}/cancel', {{ method: 'POST', mode: 'no-cors', credentials: 'include' }})")
    page.goto(address)
    page.get_by_role("link", name="Cancel…").wait_for()
