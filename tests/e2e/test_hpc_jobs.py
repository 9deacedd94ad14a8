"""The page *HPC Jobs* in a browser, inside a real Airflow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.airflow.deployment import USER
from harness.airflow.stack import AirflowStack
from tests.e2e.hpc_jobs_page import EVIL, SlowRun, frame, open_table, row_of

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def running(stack: AirflowStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowRun]:
    """A run whose job runs, for all tests of this module."""
    run = SlowRun(stack, tmp_path_factory.mktemp("running"), "hpc-jobs-running")
    yield run
    run.go_on("second")
    run.go_on("finish")


def background(page: Page) -> int:
    """Return how bright the page in the frame is, from 0 to 255."""
    colour = frame(page).locator("body").evaluate("one => getComputedStyle(one).backgroundColor")
    return int(colour.partition("(")[2].partition(",")[0])


def test_from_the_navigation_to_the_live_output_and_back(page: Page, running: SlowRun) -> None:
    page.get_by_role("link", name="HPC Jobs").click()
    table = frame(page)
    row = row_of(table, running)
    row.get_by_text("RUNNING").wait_for()
    row.get_by_text("of 30 min").wait_for()
    table.get_by_text("of 1 nodes").wait_for()
    row.get_by_role("link", name="train-digits").click()
    output = table.get_by_text("epoch 1 <script>")
    output.wait_for()
    running.go_on("second")
    table.get_by_text("epoch 2").wait_for()
    assert page.evaluate("window.owned") is None
    assert f"/firecrest/jobs/train_model/{running.run.run_id}/train/-1/{running.job_id}" in page.url
    table.get_by_text("submitted").first.wait_for()
    table.locator("summary", has_text="Script").press("Enter")
    table.locator("details.script pre", has_text="train_digits.py --data digits.csv").wait_for()
    table.get_by_role("link", name="train", exact=True).click()
    page.wait_for_url(f"**/dags/train_model/runs/{running.run.run_id}/tasks/train**")


def test_filter_and_sort(page: Page, stack: AirflowStack, running: SlowRun) -> None:
    table = open_table(page, stack)
    row = row_of(table, running)
    row.wait_for()
    table.get_by_label("Search").fill("no such job")
    table.get_by_label("Search").press("Enter")
    table.get_by_text("No job matches the filter.").wait_for()
    table.get_by_role("link", name="Reset").click()
    row.wait_for()
    table.get_by_label("State", exact=True).select_option("running")
    table.get_by_role("link", name="Reset").wait_for()
    row.wait_for()
    table.get_by_role("link", name="Waited").press("Enter")
    table.locator("th[aria-sort=descending]", has_text="Waited").wait_for()


@pytest.mark.parametrize(
    "path",
    [
        "/plugin/hpc-jobs-of-dag",
        "/runs/{run_id}/plugin/hpc-jobs-of-run",
        "/tasks/train/plugin/hpc-jobs-of-task",
        "/runs/{run_id}/tasks/train/plugin/hpc-jobs-of-task-instance",
    ],
)
def test_the_tabs(page: Page, stack: AirflowStack, running: SlowRun, path: str) -> None:
    page.goto(f"{stack.airflow.url}/dags/train_model{path.format(run_id=running.run.run_id)}")
    row_of(frame(page), running).get_by_text("RUNNING").wait_for()
    page.goto(f"{stack.airflow.url}/dags/structure_energy/plugin/hpc-jobs-of-dag")
    frame(page).get_by_text("structure_energy").first.wait_for()
    assert row_of(frame(page), running).count() == 0


def test_dark_and_light(page: Page, stack: AirflowStack) -> None:
    brightness = {}
    for theme in ("dark", "light"):
        page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        open_table(page, stack)
        brightness[theme] = background(page)
    assert brightness["dark"] < 60
    assert brightness["light"] > 200


def test_a_name_that_somebody_has_edited_does_nothing(page: Page, stack: AirflowStack, running: SlowRun) -> None:
    task = f"/dags/train_model/dagRuns/{running.run.run_id}/taskInstances/export_digits"
    snapshot = {"job_id": "666", "system": "local", "name": EVIL, "state": "PENDING", "reason": EVIL, "seen_at": 1.0}
    stack.api.request("POST", f"{task}/xcomEntries", json={"key": "firecrest_job", "value": snapshot})
    table = open_table(page, stack)
    row = table.get_by_role("row").filter(has_text="666")
    row.get_by_text("<script>").first.wait_for()
    row.get_by_role("link").first.click()
    table.get_by_role("heading", name="<script>").wait_for()
    assert page.evaluate("window.owned") is None


def test_cancelling_ends_the_job_and_fails_the_task(page: Page, stack: AirflowStack, tmp_path: Path) -> None:
    run = SlowRun(stack, tmp_path, "hpc-jobs-cancelled")
    run.wait_until(lambda: run.state() == "deferred")
    table = open_table(page, stack)
    row_of(table, run).get_by_role("link", name="train-digits").click()
    table.get_by_role("link", name="Cancel…").click()
    table.get_by_text("as failed. It is not retried.").wait_for()
    assert not run.has_ended()
    table.get_by_role("button", name="Cancel the job").click()
    table.get_by_text(re.compile(r"with its task; \w+ when last seen")).first.wait_for()
    table.locator(".state", has_text="CANCELLED").wait_for()
    assert run.state() == "failed"
    run.wait_until(run.has_ended)
    assert table.get_by_role("link", name="Cancel…").count() == 0
    events = stack.api.request("GET", "/eventLogs", params={"dag_id": "train_model", "event": "patch_task_instance"})
    assert {one["owner"] for one in events["event_logs"]} == {USER}
