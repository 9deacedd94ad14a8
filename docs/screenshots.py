"""Take the documentation's screenshots of the example DAGs in Airflow's UI, after a real run.

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

from harness.airflow.deployment import USER  # noqa: E402
from harness.airflow.runs import DAGRun, wait_for_runs  # noqa: E402
from harness.airflow.stack import AirflowStack  # noqa: E402
from harness.browser import browser  # noqa: E402
from harness.examples import copy_structure  # noqa: E402

IMAGES = Path(__file__).parent / "images"
RUN = DAGRun("structure_energy", "silicon")


def main() -> None:
    """Run the DAG, log in, and take the screenshots."""
    with tempfile.TemporaryDirectory() as folder, AirflowStack(Path(folder) / "stack") as stack:
        copy_structure(stack.results / "structures")
        stack.wait_for_dags(RUN.dag_id)
        stack.api.trigger(RUN.dag_id, RUN.run_id)
        wait_for_runs(stack.api, [RUN], Console())
        with browser() as chromium:
            page = chromium.new_page(
                viewport={"width": 1280, "height": 600}, device_scale_factor=2, color_scheme="light"
            )
            log_in(page, stack)
            graph(page, stack)


def log_in(page: Page, stack: AirflowStack) -> None:
    """Log in to Airflow's UI."""
    page.goto(stack.airflow.url)
    page.get_by_label("Username").fill(USER)
    page.get_by_label("Password").fill(stack.airflow.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_load_state("networkidle")


def graph(page: Page, stack: AirflowStack) -> None:
    """Take the DAG's graph beside its run."""
    page.goto(f"{stack.airflow.url}/dags/{RUN.dag_id}/runs/{RUN.run_id}")
    page.get_by_label("Show Graph").click()
    page.get_by_label("Collapse Details Panel").click()
    page.get_by_label("Fit View").click()
    page.wait_for_timeout(2000)  # the graph is animated
    page.screenshot(path=IMAGES / "structure_energy.png")


if __name__ == "__main__":
    main()
