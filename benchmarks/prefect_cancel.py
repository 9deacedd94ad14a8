"""Measure how long after the cancelling of a flow run its jobs end.

A real Prefect server with served flows and the reconciler, and jobs that run on the embedded FirecREST. Each case is
cancelled as the UI's button does it. The time ends when FirecREST shows every job of the flow run as cancelled.

    python -m benchmarks.prefect_cancel [--check]

The last line is a JSON object with the seconds of each case: ``direct``, ``submit`` (``.submit()``), ``map`` (eight
jobs), ``subflow``, ``suspended`` (the flow run waits without a process), ``sigkill`` (its runner and its process were
killed). ``--check`` fails if a case took longer than ten seconds, two intervals of the reconciler.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import psutil

from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST, Plan, Settings
from prefect_firecrest import FirecRESTCredentials
from tests.prefect import real

CASES = ("direct", "submit", "map", "subflow", "suspended", "sigkill")
BUDGET = 10.0


def main() -> None:
    """Measure all cases and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if the budget is exceeded")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        seconds = measure(Path(directory))
    print(json.dumps({"seconds": seconds, "budget": BUDGET}))
    if given.check and max(seconds.values()) > BUDGET:
        sys.exit("Cancelling took too long.")


def measure(root: Path) -> dict[str, float]:
    """Run all cases, one after another, and return their seconds."""
    settings = Settings(root=root / "cluster", cores=32, accounting_lag=0.2, kill_wait=0.5, faults=Plan())
    environment = real.environment(root)
    reconciler = [sys.executable, "-m", "prefect_firecrest.reconcile"]
    with LocalFirecREST(settings) as f7t, real.server(environment, root) as api:
        real.store_credentials(environment, f7t)
        served = real.Served(api, environment, root)
        seconds = {}
        with real.process(reconciler, environment, root / "reconciler"):
            for case in CASES:  # the last case kills the runner
                with served.running() as runner:
                    seconds[case] = round(cancel(case, api, served, f7t, runner), 1)
                print(case, seconds[case], flush=True)
    return seconds


def cancel(case: str, api: real.Api, served: real.Served, f7t: LocalFirecREST, runner: psutil.Popen) -> float:
    """Run one case and return the seconds from the cancelling to the end of its jobs."""
    directory = Path(f7t.home, case)
    directory.mkdir()
    runs = directory / "runs"
    flow_case, jobs = "submit" if case == "sigkill" else case, 8 if case == "map" else 1
    flow_run = served.start("endless", working_dir=str(directory), case=flow_case)
    real.until(lambda: runs.exists() and len(runs.read_text().split()) == jobs, "the start of the jobs")
    if case == "suspended":
        real.until(lambda: api.state(flow_run) == "PAUSED", "the suspension")
    if case == "sigkill":
        for process in [runner, *runner.children(recursive=True)]:
            process.kill()
    credentials = FirecRESTCredentials(
        url=f7t.url, token_url=f7t.token_url, client_id=f7t.client_id, client_secret=f7t.client_secret
    )

    async def states() -> set[JobState]:
        async with credentials.get_client() as client:
            rows = await client.system(f7t.system).get_jobs()
            return {row.state for row in rows if row.working_dir == str(directory)}

    began = time.monotonic()
    api.cancel(flow_run)
    real.until(lambda: asyncio.run(states()) == {JobState.CANCELLED}, "the end of the jobs")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
