"""The finished example flows in both versions of Prefect's UI."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from harness.prefect.stack import PrefectStack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Milliseconds. Prefect's UI polls its API, so the network is never idle; on a busy machine a page takes long.
TIMEOUT = 60_000


@pytest.fixture(scope="module")
def page(chromium: Browser) -> Page:
    page = chromium.new_page(viewport={"width": 1400, "height": 1200})
    page.set_default_timeout(TIMEOUT)
    return page


@pytest.fixture(params=["", "/v2"], ids=["v1", "v2"])
def ui(stack: PrefectStack, request: pytest.FixtureRequest) -> str:
    return f"{stack.server.url}{request.param}"


def artifact(stack: PrefectStack, run_id: str, key: str) -> str:
    return next(one["id"] for one in stack.api.artifacts(run_id) if one["key"] == key)


def test_the_flow_run(page: Page, ui: str, finished_runs: dict[str, str]) -> None:
    page.goto(f"{ui}/runs/flow-run/{finished_runs['train_model']}")
    page.get_by_text("Completed", exact=True).first.wait_for()
    page.get_by_text("train-model", exact=True).first.wait_for()
    # The messages about the job, and its output.
    page.get_by_text(re.compile(r"Job \d+ \(train-digits\) was submitted to local")).first.wait_for()
    page.get_by_text(re.compile(r"Job \d+ \(train-digits\) writes:\s+epoch")).first.wait_for()
    page.get_by_text(re.compile(r"Job \d+ \(train-digits\) on local ended COMPLETED, exit code 0")).first.wait_for()

    page.get_by_text("Task Runs", exact=True).first.click()
    for name in ("submit train-digits", "upload digits.csv and 1 more", "download model.joblib and 2 more"):
        page.get_by_text(name, exact=True).first.wait_for()
    page.get_by_text(re.compile(r"^wait for Job \d+ \(train-digits\)$")).first.wait_for()

    page.get_by_text("Artifacts", exact=True).last.click()
    page.get_by_text("firecrest-jobs").first.wait_for()
    page.get_by_text("firecrest-train-digits").first.wait_for()


def test_the_list_of_artifacts(page: Page, ui: str, finished_runs: dict[str, str]) -> None:
    page.goto(f"{ui}/artifacts")
    for key in ("firecrest-jobs", "firecrest-energy", "firecrest-train-digits"):
        page.get_by_text(key, exact=True).first.wait_for()


def test_the_table_of_jobs(page: Page, ui: str, stack: PrefectStack, finished_runs: dict[str, str]) -> None:
    page.goto(f"{ui}/artifacts/artifact/{artifact(stack, finished_runs['parameter_sweep'], 'firecrest-jobs')}")
    page.get_by_text(re.compile(r"6 jobs: 6 COMPLETED; 0\.\d+ node hours")).first.wait_for()
    for column in ("Job", "State", "Nodes", "Node hours"):
        page.get_by_text(column, exact=True).first.wait_for()
    for index in range(6):
        page.get_by_text(f"sweep-{index}", exact=True).first.wait_for()
    assert page.get_by_text("COMPLETED", exact=True).count() == 6


def test_the_progress_of_a_job(page: Page, ui: str, stack: PrefectStack, finished_runs: dict[str, str]) -> None:
    page.goto(f"{ui}/artifacts/artifact/{artifact(stack, finished_runs['train_model'], 'firecrest-train-digits')}")
    page.get_by_text(re.compile(r"\(train-digits\) on local ended COMPLETED")).first.wait_for()
    page.get_by_text("100%").first.wait_for()


def test_the_curves_of_a_training(page: Page, ui: str, stack: PrefectStack, finished_runs: dict[str, str]) -> None:
    key = "firecrest-train-digits-metrics"
    page.goto(f"{ui}/artifacts/artifact/{artifact(stack, finished_runs['train_model'], key)}")
    page.get_by_text("test_accuracy", exact=True).first.wait_for()
    curves = page.get_by_alt_text("curves").first
    curves.wait_for()
    assert curves.evaluate("image => image.decode().then(() => image.naturalWidth)") == 720


def test_the_events_of_a_job(page: Page, stack: PrefectStack, finished_runs: dict[str, str]) -> None:
    from playwright import sync_api

    feed = page.get_by_text(re.compile(r"^firecrest\.job\.(submitted|running|ended)$"))
    deadline = time.monotonic() + 2 * TIMEOUT / 1000
    while True:  # the feed ends with the last full minute and does not reload by itself
        page.goto(f"{stack.server.url}/v2/events")
        with suppress(sync_api.TimeoutError):
            return feed.first.wait_for(timeout=10_000)
        assert time.monotonic() < deadline
