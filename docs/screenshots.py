"""Take the pictures of the documentation: the example DAGs in Airflow's UI, after a real run.

`make screenshots`; needs a Chromium, which CHROMIUM names or the search path holds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page
from rich.console import Console

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from demo.browser import browser  # noqa: E402
from demo.deployment import USER  # noqa: E402
from demo.runs import Run, follow  # noqa: E402
from demo.stack import Stack, copy_structure  # noqa: E402

IMAGES = Path(__file__).parent / "images"
RUN = Run("structure_energy", "silicon")


def main() -> None:
    """Run the DAG, log in, and take the pictures."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack") as stack:
        copy_structure(stack.results / "structures")
        stack.wait_for_dags(RUN.dag_id)
        stack.api.trigger(RUN.dag_id, RUN.run_id)
        follow(stack.api, [RUN], Console())
        with browser() as chromium:
            page = chromium.new_page(
                viewport={"width": 1280, "height": 600}, device_scale_factor=2, color_scheme="light"
            )
            log_in(page, stack)
            graph(page, stack)


def log_in(page: Page, stack: Stack) -> None:
    page.goto(stack.airflow.url)
    page.get_by_label("Username").fill(USER)
    page.get_by_label("Password").fill(stack.airflow.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_load_state("networkidle")


def graph(page: Page, stack: Stack) -> None:
    """The DAG as a graph beside its run."""
    page.goto(f"{stack.airflow.url}/dags/{RUN.dag_id}/runs/{RUN.run_id}")
    page.get_by_label("Show Graph").click()
    page.get_by_label("Collapse Details Panel").click()
    page.get_by_label("Fit View").click()
    page.wait_for_timeout(2000)  # the graph moves into its place
    page.screenshot(path=IMAGES / "structure_energy.png")


if __name__ == "__main__":
    main()
