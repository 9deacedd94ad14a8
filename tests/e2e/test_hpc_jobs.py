"""The page *HPC Jobs* in a browser, inside a real Airflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from harness.airflow.deployment import USER
from harness.airflow.runs import DAGRun
from harness.airflow.stack import AirflowStack

if TYPE_CHECKING:
    from playwright.sync_api import FrameLocator, Locator, Page

# Milliseconds. On a busy machine a page takes long.
TIMEOUT = 180_000

EVIL = "<script>window.top.owned = 1</script><img src=x onerror='window.top.owned = 1'>"

# Stands in the place of the job's Python, and lets the job wait.
SLOW_PYTHON = """#!/bin/bash
echo $SLURM_JOB_ID $$ > {folder}/new && mv {folder}/new {folder}/started
echo "epoch 1 {evil}"
until [ -e {folder}/second ]; do sleep 0.1; done
echo "epoch 2"
until [ -e {folder}/finish ]; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def page(stack: AirflowStack, require: Callable[[bool, str], None]) -> Iterator[Page]:
    """A browser in which Airflow's user is logged in."""
    installed = True
    try:
        from harness import browser
    except ImportError:
        installed = False
    require(installed, "playwright is not installed")
    require(browser.chromium() is not None, "no Chromium: apt-get install chromium, or name one in CHROMIUM")
    with browser.browser() as chromium:
        page = chromium.new_page(viewport={"width": 1400, "height": 900}, color_scheme="light")
        page.set_default_timeout(TIMEOUT)
        page.goto(stack.airflow.url)
        page.get_by_label("Username").fill(USER)
        page.get_by_label("Password").fill(stack.airflow.password)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="HPC Jobs").wait_for()
        yield page


class SlowRun:
    """A run of `train_model` whose job writes two lines and waits before the second and before its end."""

    def __init__(self, stack: AirflowStack, folder: Path, run_id: str) -> None:
        self._stack, self._folder = stack, folder
        self.run = DAGRun("train_model", run_id)
        python = folder / "python"
        python.write_text(SLOW_PYTHON.format(folder=folder, evil=EVIL.replace("'", '\\"').replace('"', '\\"')))
        python.chmod(0o755)
        params = {"python": str(python), "folder": str(folder), "time_limit": "00:30:00"}
        stack.api.trigger("train_model", run_id, params)
        self.wait_until(lambda: (folder / "started").exists())
        self.job_id, self._pid = (folder / "started").read_text().split()

    def go_on(self, until: str) -> None:
        (self._folder / until).touch()

    def has_ended(self) -> bool:
        return not psutil.pid_exists(int(self._pid))

    def state(self) -> str:
        instances = self._stack.api.task_instances(self.run.dag_id, self.run.run_id)
        return next(one["state"] for one in instances if one["task_id"] == "train")

    @staticmethod
    def wait_until(condition: Callable[[], Any]) -> None:
        end = time.monotonic() + TIMEOUT / 1000
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.fixture(scope="module")
def running(stack: AirflowStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowRun]:
    """A run whose job runs, for all tests of this module."""
    run = SlowRun(stack, tmp_path_factory.mktemp("running"), "hpc-jobs-running")
    yield run
    run.go_on("second")
    run.go_on("finish")


def frame(page: Page) -> FrameLocator:
    return page.frame_locator("iframe[title='HPC Jobs']")


def row_of(table: FrameLocator, run: SlowRun) -> Locator:
    return table.get_by_role("row").filter(has=table.locator(f"a[href*='/{run.run.run_id}/train/']"))


def open_table(page: Page, stack: AirflowStack) -> FrameLocator:
    page.goto(f"{stack.airflow.url}/plugin/hpc-jobs")
    table = frame(page)
    table.get_by_role("heading", name="HPC Jobs").wait_for()
    return table


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
    table.get_by_text("The task has ended (failed)").wait_for()
    assert run.state() == "failed"
    run.wait_until(run.has_ended)
    assert table.get_by_role("link", name="Cancel…").count() == 0
    events = stack.api.request("GET", "/eventLogs", params={"dag_id": "train_model", "event": "patch_task_instance"})
    assert {one["owner"] for one in events["event_logs"]} == {USER}
