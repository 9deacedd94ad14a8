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
from harness.environment import clean_environment  # noqa: E402
from harness.prefect.runs import wait_for_flow_runs  # noqa: E402
from harness.prefect.stack import PrefectStack  # noqa: E402
from harness.service import Service, wait_until  # noqa: E402

IMAGES = Path(__file__).parent / "images"
# Saves a job as a block, and serves the flow that runs it.
SERVE = """
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, run_job
credentials = FirecRESTCredentials.from_environment()
credentials.save("daint", overwrite=True)
job = FirecRESTJob(credentials=credentials, working_dir="~/silicon", command="srun pw.x -in si.in")
job.save("silicon", overwrite=True)
run_job.serve("hpc")
"""


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
            curves(page, stack, runs["train_model"])
            with Service(
                "the process that serves run_job",
                [sys.executable, "-c", SERVE],
                environment=clean_environment() | stack.server.variables | dict(stack.firecrest.variables),
                log=Path(folder) / "serve.log",
            ) as served:
                wait_until(lambda: "run_job" in stack.api.deployments(), "run_job is served", services=[served])
                form(page, stack)


def form(page: Page, stack: PrefectStack) -> None:
    """Take the form of the deployment of `run_job`, with a block chosen."""
    # The blocks' logo is a page of the site.
    page.route("**/images/logo.svg", lambda route: route.fulfill(path=IMAGES / "logo.svg"))
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{stack.server.url}/v2/deployments/deployment/{stack.api.deployments()['run_job']}/run")
    page.get_by_text("Select a block").click()
    page.get_by_text("silicon").click()
    page.wait_for_timeout(1000)
    page.screenshot(path=IMAGES / "prefect_form.png")


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


def curves(page: Page, stack: PrefectStack, run_id: str) -> None:
    """Take the curves of the training."""
    metrics = next(one for one in stack.api.artifacts(run_id) if one["key"] == "firecrest-train-digits-metrics")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{stack.server.url}/artifacts/artifact/{metrics['id']}")
    page.get_by_alt_text("curves").wait_for()
    page.wait_for_timeout(1000)
    page.screenshot(path=IMAGES / "prefect_curves.png")


if __name__ == "__main__":
    main()
