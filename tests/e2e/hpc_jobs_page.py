"""The page *HPC Jobs* in a browser, and a run whose job it shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from harness.airflow.runs import DAGRun
from harness.airflow.stack import AirflowStack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FrameLocator, Locator, Page

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
        """Let the job go on to its second line, or to its end."""
        (self._folder / until).touch()

    def has_ended(self) -> bool:
        """Tell whether the job's process is gone."""
        return not psutil.pid_exists(int(self._pid))

    def state(self) -> str:
        """Return the state of the task in Airflow."""
        instances = self._stack.api.task_instances(self.run.dag_id, self.run.run_id)
        return next(one["state"] for one in instances if one["task_id"] == "train")

    @staticmethod
    def wait_until(condition: Callable[[], Any]) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + TIMEOUT / 1000
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.1)


def log_in(chromium: Browser, stack: AirflowStack, user: str, password: str) -> Page:
    """Return a page, in a context of its own, in which a user of Airflow is logged in."""
    page = chromium.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light").new_page()
    page.set_default_timeout(TIMEOUT)
    page.goto(stack.airflow.url)
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="HPC Jobs").wait_for()
    return page


def frame(page: Page) -> FrameLocator:
    """Return the page inside of Airflow's."""
    return page.frame_locator("iframe[title='HPC Jobs']")


def row_of(table: FrameLocator, run: SlowRun) -> Locator:
    """Return the row of the run's job."""
    return table.get_by_role("row").filter(has=table.locator(f"a[href*='/{run.run.run_id}/train/']"))


def open_table(page: Page, stack: AirflowStack) -> FrameLocator:
    """Open the table from its address in Airflow."""
    page.goto(f"{stack.airflow.url}/plugin/hpc-jobs")
    table = frame(page)
    table.get_by_role("heading", name="HPC Jobs").wait_for()
    return table
