"""Take the documentation's screenshots of a connection, of the example DAGs and of HPC Jobs in Airflow's UI.

`make screenshots` runs it. It needs a Chromium in PATH, or one that the variable CHROMIUM names.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import httpx
from playwright.sync_api import Page
from rich.console import Console

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")  # for the templates of the page

from airflow_provider_firecrest.web.systems import SystemView, count_loads  # noqa: E402
from airflow_provider_firecrest.web.templating import render  # noqa: E402
from docs.shown_jobs import shown_jobs  # noqa: E402
from harness.airflow.deployment import USER  # noqa: E402
from harness.airflow.runs import DAGRun, wait_for_runs  # noqa: E402
from harness.airflow.stack import AirflowStack  # noqa: E402
from harness.browser import browser  # noqa: E402
from harness.examples import copy_structure  # noqa: E402
from harness.service import wait_until  # noqa: E402

IMAGES = Path(__file__).parent / "images"
RUN = DAGRun("structure_energy", "silicon")
WAITING = DAGRun("train_model", "nightly")
CONN_ID = "firecrest_laptop"


def main() -> None:
    """Run the DAG, log in, and take the screenshots."""
    with tempfile.TemporaryDirectory() as folder, AirflowStack(Path(folder) / "stack") as stack:
        copy_structure(stack.results / "structures")
        stack.wait_for_dags(RUN.dag_id)
        stack.api.trigger(RUN.dag_id, RUN.run_id)
        wait_for_runs(stack.api, [RUN], Console())
        train(stack)
        with browser() as chromium:
            page = chromium.new_page(
                viewport={"width": 1280, "height": 600}, device_scale_factor=2, color_scheme="light"
            )
            log_in(page, stack)
            graph(page, stack)
            connection(page, stack)
            training(page, stack)
            store_jobs(stack)
            hpc_jobs(page, stack)


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
    page.set_viewport_size({"width": 1280, "height": 2700})
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


def train(stack: AirflowStack) -> None:
    """Train a network in a job that goes on for ten minutes afterwards, so that its task waits."""
    python = stack.home / "python"
    python.write_text(f'#!/bin/bash\n{sys.executable} "$@"\nsleep 600\n')
    python.chmod(0o755)
    stack.wait_for_dags(WAITING.dag_id)
    stack.api.trigger(WAITING.dag_id, WAITING.run_id, {"python": str(python), "time_limit": "00:30:00"})
    wait_until(lambda: "accuracy" in own_job(stack), "a job trains", services=stack.airflow.services)


def training(page: Page, stack: AirflowStack) -> None:
    """Take the page of the job that trains."""
    page.set_viewport_size({"width": 1280, "height": 1150})
    page.goto(f"{stack.airflow.url}/plugin/hpc-jobs")
    frame = page.frame_locator("iframe")
    frame.locator(f"a[href*='/{WAITING.run_id}/train/']").first.click()
    frame.locator("figure, svg.curve, .curves svg").first.wait_for()
    frame.get_by_text("epoch  40").wait_for()
    page.screenshot(path=IMAGES / "hpc_job.png")


def store_jobs(stack: AirflowStack) -> None:
    """Give two runs jobs as a centre has them."""
    for run, task_id, kind in ((RUN, "compute", "ended"), (WAITING, "train", "waiting")):
        for number, snapshot in enumerate(shown_jobs(kind)):
            key = "firecrest_job" if run is WAITING and number == 0 else f"firecrest_job.{number}"
            path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/xcomEntries"
            if key == "firecrest_job":
                stack.api.request("PATCH", f"{path}/{key}", json={"value": snapshot})
            else:
                stack.api.request("POST", path, json={"key": key, "value": snapshot})


def own_job(stack: AirflowStack) -> str:
    """Return what the waiting task has stored of its own job; an empty text before it has."""
    path = f"/dags/{WAITING.dag_id}/dagRuns/{WAITING.run_id}/taskInstances/train/xcomEntries/firecrest_job"
    try:
        return str(stack.api.request("GET", path)["value"])
    except httpx.HTTPStatusError:
        return ""


def hpc_jobs(page: Page, stack: AirflowStack) -> None:
    """Take the page of jobs, in light and in dark."""
    loads = {"daint": (37, 20, 900, 14), "eiger": (112, 8, 380, 4)}
    kinds = ("free", "mixed", "allocated", "down")
    systems = [
        SystemView(
            name,
            light="completed",
            scheduler="Slurm 24.05",
            nodes=sum(numbers),
            counts=count_loads([kind for kind, number in zip(kinds, numbers, strict=True) for _ in range(number)]),
        )
        for name, numbers in loads.items()
    ]
    page.route("**/firecrest/systems*", lambda route: route.fulfill(body=render("systems.html", {"systems": systems})))
    page.set_viewport_size({"width": 1280, "height": 720})
    for theme in ("light", "dark"):
        page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        page.goto(f"{stack.airflow.url}/plugin/hpc-jobs")
        page.frame_locator("iframe").get_by_text("of 971 nodes").wait_for()
        page.screenshot(path=IMAGES / f"hpc_jobs_{theme}.png")


if __name__ == "__main__":
    main()
