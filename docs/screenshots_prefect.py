"""Take the documentation's screenshots of the example flows in Prefect's UI, after a real run.

`make screenshots` runs it. It needs a Chromium in PATH, or one that the variable CHROMIUM names.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page
from rich.console import Console

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from harness.browser import browser  # noqa: E402
from harness.prefect.runs import wait_for_flow_runs  # noqa: E402
from harness.prefect.stack import PrefectStack  # noqa: E402

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Run the flows one after another, and take the screenshots."""
    with tempfile.TemporaryDirectory() as folder, PrefectStack(Path(folder) / "stack") as stack:
        runs = {}
        for flow in ("train_model", "parameter_sweep"):
            runs[flow] = stack.start(flow)
            wait_for_flow_runs(stack.api, {runs[flow]: flow}, Console())
        with browser() as chromium:
            page = chromium.new_page(
                viewport={"width": 1280, "height": 1250}, device_scale_factor=2, color_scheme="light"
            )
            flow_run(page, stack, runs["train_model"])
            jobs(page, stack, runs["parameter_sweep"])


def flow_run(page: Page, stack: PrefectStack, run_id: str) -> None:
    """Take the flow run's graph above its log, which holds the job's output."""
    page.goto(f"{stack.server.url}/v2/runs/flow-run/{run_id}")
    page.get_by_text("writes:").first.wait_for()
    page.wait_for_timeout(3000)  # the graph is animated
    page.screenshot(path=IMAGES / "prefect_flow_run.png")


def jobs(page: Page, stack: PrefectStack, run_id: str) -> None:
    """Take the table of the sweep's jobs."""
    table = next(one for one in stack.api.artifacts(run_id) if one["key"] == "firecrest-jobs")
    page.set_viewport_size({"width": 1280, "height": 600})
    page.goto(f"{stack.server.url}/artifacts/artifact/{table['id']}")
    page.get_by_text("sweep-5").wait_for()
    page.wait_for_timeout(1000)
    page.screenshot(path=IMAGES / "prefect_jobs.png")


if __name__ == "__main__":
    main()
