"""Measure whether submissions to the embedded FirecREST slow down with the queue.

Nearly all jobs wait, because the node has one core and its first job does not end. The requests are sent one after the
other over one connection.

    python benchmarks/local_submissions.py [--jobs N …] [--check]

The last line is a JSON object with, for each number of jobs, the seconds that all submissions took and the
milliseconds of each. ``--check`` fails if a job of the longest queue took more than twice as long as one of the
shortest.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import httpx

from firecrest_local import LocalFirecREST, Settings

MOST = 2.0


def main() -> None:
    """Measure all numbers of jobs and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1000, 4000], help="numbers of jobs to submit")
    parser.add_argument("--check", action="store_true", help="fail if the budget is exceeded")
    given = parser.parse_args()
    report = {}
    for jobs in sorted(given.jobs):
        seconds = measure(jobs)
        report[jobs] = {"seconds": round(seconds, 2), "ms_per_job": round(seconds / jobs * 1000, 2)}
        print(f"{jobs} jobs: {seconds:.2f} s")
    print(json.dumps(report))
    costs = [row["ms_per_job"] for row in report.values()]
    if given.check and costs[-1] > MOST * costs[0]:
        sys.exit(f"a submission may cost {MOST} times as much at most when the queue is long")


def measure(jobs: int) -> float:
    """Return the seconds that this number of submissions takes."""
    with tempfile.TemporaryDirectory() as root, LocalFirecREST(Settings(root=Path(root), cores=1)) as server:
        body = {"job": {"workingDirectory": str(server.home), "script": "#!/bin/sh\nsleep 3600\n"}}
        url = f"/compute/{server.system}/jobs"
        token = {"Authorization": f"Bearer {server.issuer.issue(lifetime=86400)}"}
        with httpx.Client(base_url=server.url, headers=token, timeout=60, trust_env=False) as http:
            start = time.perf_counter()
            for _ in range(jobs):
                http.post(url, json=body).raise_for_status()
            return time.perf_counter() - start


if __name__ == "__main__":
    main()
