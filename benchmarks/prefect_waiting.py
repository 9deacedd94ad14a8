"""Measure what a Prefect flow costs that waits for many mapped jobs.

A real Prefect server, a real flow run in its own process, and firecrest-local. The jobs are real, but nearly all of
them wait in the queue of its two cores, until a file lets all of them end. While nothing changes, the requests of the
flow's process are counted. Its peak memory is compared with that of an empty flow.

    python -m benchmarks.prefect_waiting [--jobs N] [--quiet SECONDS] [--check]

The last line is a JSON object with, among others:

- ``requests_per_interval``: requests of the flow's process to FirecREST in each poll interval (10 s) of the quiet time
- ``added_mb``: peak resident memory over that of an empty flow
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from firecrest_local import LocalFirecREST, Plan, Settings
from harness.environment import clean_environment
from harness.prefect.server import PrefectServer

POLL_INTERVAL = 10.0
MOST_REQUESTS, MOST_MB = 1.5, 250.0  # the interval has jitter, and jobs that are due are polled earlier

FLOW = """
import json, resource, sys
from prefect import flow
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, submit_job, wait_for_job

given = json.loads(sys.argv[1])

@flow
def waiting():
    credentials = FirecRESTCredentials(**given["credentials"])
    jobs = [
        FirecRESTJob(credentials=credentials, working_dir=given["working_dir"], command=given["command"], name=f"n{n}")
        for n in range(given["jobs"])
    ]
    runs = submit_job.map(jobs).result()
    futures = wait_for_job.map(runs)
    print("waiting", flush=True)
    assert all(result.succeeded for result in futures.result())

waiting()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak_mb": peak / (2**20 if sys.platform == "darwin" else 2**10)}), flush=True)
"""

EMPTY = """
import json, resource, sys
from prefect import flow

@flow
def empty():
    pass

empty()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak_mb": peak / (2**20 if sys.platform == "darwin" else 2**10)}), flush=True)
"""


def run_flow(source: str, environment: dict[str, str], log: Path, given: Any = None) -> subprocess.Popen[str]:
    """Start a flow run in its own process, with its standard output in a pipe and its log in a file."""
    command = [sys.executable, "-c", source, json.dumps(given)]
    with log.open("w") as file:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=file, text=True)


def peak_memory(flow: subprocess.Popen[str], log: Path) -> float:
    """Wait for the end of a flow and return its peak memory in MB."""
    output, _ = flow.communicate()
    if flow.returncode:
        sys.exit(f"the flow failed:\n{log.read_text()[-4000:]}")
    return float(json.loads(output.splitlines()[-1])["peak_mb"])


def measure(jobs: int, quiet: float) -> dict[str, Any]:
    """Run both flows and return the costs."""
    with tempfile.TemporaryDirectory(prefix="prefect-waiting-") as directory:
        home = Path(directory)
        settings = Settings(root=home / "cluster", cores=2, faults=Plan())
        with PrefectServer(home / "prefect") as prefect, LocalFirecREST(settings) as f7t:
            assert f7t.faults is not None
            prefect.wait()
            environment = clean_environment() | prefect.variables
            empty_mb = peak_memory(run_flow(EMPTY, environment, home / "empty.log"), home / "empty.log")
            given = {
                "credentials": {
                    "url": f7t.url,
                    "token_url": f7t.token_url,
                    "client_id": f7t.client_id,
                    "client_secret": f7t.client_secret,
                    "system": f7t.system,
                },
                "working_dir": str(f7t.home),
                "command": "until [ -e go ]; do sleep 1; done",
                "jobs": jobs,
            }
            began = time.monotonic()
            flow = run_flow(FLOW, environment, home / "flow.log", given)
            assert flow.stdout is not None
            if flow.stdout.readline().strip() != "waiting":
                peak_memory(flow, home / "flow.log")
            submitted = time.monotonic() - began
            # A new job is polled more often: after a tenth of the time since its last change, up to the interval.
            time.sleep(12 * POLL_INTERVAL)
            # The log of injected faults lists each request that matches a rule, here every request.
            f7t.faults.set({"rules": [{"fault": "delay", "seconds": 0.001}]})
            time.sleep(quiet)
            requests = [f"{request.method} {request.path}" for request in f7t.faults.log]
            f7t.faults.clear()
            Path(f7t.home, "go").touch()
            flow_mb = peak_memory(flow, home / "flow.log")
    return {
        "jobs": jobs,
        "submitted_within_s": round(submitted, 1),
        "quiet_s": quiet,
        "requests": len(requests),
        "requests_per_interval": round(len(requests) / (quiet / POLL_INTERVAL), 2),
        "kinds": sorted(set(requests)),
        "empty_mb": round(empty_mb, 1),
        "flow_mb": round(flow_mb, 1),
        "added_mb": round(flow_mb - empty_mb, 1),
    }


def main() -> int:
    """Print the costs; with ``--check`` return 1 if they are over the budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=500, help="mapped jobs (default: 500)")
    parser.add_argument("--quiet", type=float, default=100.0, help="seconds to count requests for (default: 100)")
    parser.add_argument("--check", action="store_true", help="fail when it costs too much")
    given = parser.parse_args()
    costs = measure(given.jobs, given.quiet)
    passed = costs["requests_per_interval"] <= MOST_REQUESTS and costs["added_mb"] <= MOST_MB
    print(json.dumps(costs | {"poll_interval": POLL_INTERVAL, "budget_mb": MOST_MB, "passed": passed}))
    return 1 if given.check and not passed else 0


if __name__ == "__main__":
    sys.exit(main())
