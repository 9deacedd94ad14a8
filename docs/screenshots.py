"""Take the documentation's screenshots of a connection and of the example DAGs in Airflow's UI, after a real run.

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
CONN_ID = "firecrest_laptop"


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
            connection(page, stack)


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


def connection(page: Page, stack: AirflowStack) -> None:
    """Take the form of a connection, and the list of connections after its Test button has succeeded."""
    fields = stack.firecrest.connection()
    page.set_viewport_size({"width": 1280, "height": 1800})
    page.goto(f"{stack.airflow.url}/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.locator("[name=connection_id]").fill(CONN_ID)
    form.get_by_role("combobox").first.fill("FirecREST")
    form.get_by_role("option", name="FirecREST", exact=True).click()
    for name in ("host", "login", "password"):
        form.locator(f"[name={name}]").fill(fields[name])
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    for name, value in fields["extra"].items():
        form.locator(f"[name=element_{name}]").fill(value)
    page.wait_for_timeout(1000)  # the fields unfold
    form.screenshot(path=IMAGES / "connection_form.png")
    form.get_by_role("button", name="Save").click()
    row = page.get_by_role("row").filter(has_text=CONN_ID)
    row.get_by_role("button", name="Test").click()
    page.set_viewport_size({"width": 1280, "height": 500})
    page.get_by_text(" answers as ").wait_for()
    page.screenshot(path=IMAGES / "connection_test.png")


if __name__ == "__main__":
    main()
