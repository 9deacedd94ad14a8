"""What do all operators, sensors and triggers cost a DAG file, over ``from airflow.sdk import DAG``?

Airflow parses every DAG file again and again, each time in a process of its own, so each run here is a new process:
it imports ``DAG``, then the provider, and reports what the second import added: processor time (which is judged,
since other processes on the machine lengthen the time on the clock and not the cost), time on the clock, and
resident memory. The last line of the output is one JSON object with the medians.

    python benchmarks/import_cost.py [--runs N] [--check]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

BUDGET_MS = 80.0
BUDGET_MB = 8.0

ONE_RUN = """
import json, os, resource, sys, time

def resident():
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:  # no procfs: the peak, in kB or (macOS) bytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)

begin = time.process_time()
from airflow.sdk import DAG
baseline_ms = 1000 * (time.process_time() - begin)
memory, before, begin, began_at = resident(), set(sys.modules), time.process_time(), time.perf_counter()
import airflow_provider_firecrest.operators
import airflow_provider_firecrest.sensors
import airflow_provider_firecrest.triggers.file
import airflow_provider_firecrest.triggers.job
import airflow_provider_firecrest.triggers.transfer
added_ms, clock_ms = 1000 * (time.process_time() - begin), 1000 * (time.perf_counter() - began_at)
added_mb = resident() - memory
heavy = {"firecrest", "httpx", "tenacity", "cryptography", "firecrest_core.client"} & (set(sys.modules) - before)
print(json.dumps({
    "baseline_ms": baseline_ms, "added_ms": added_ms, "clock_ms": clock_ms, "added_mb": added_mb,
    "heavy": sorted(heavy),
}))
"""


def measure() -> dict:
    """Import in a new process."""
    answer = subprocess.run([sys.executable, "-c", ONE_RUN], check=True, capture_output=True, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


def main() -> int:
    """Print the medians; with ``--check`` return 1 when they are over the budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="processes to take the median of (default: 9)")
    parser.add_argument("--check", action="store_true", help="fail when the medians are over the budget")
    options = parser.parse_args()

    measure()  # writes byte code, fills the file cache
    runs = [measure() for _ in range(options.runs)]
    added_ms = statistics.median(run["added_ms"] for run in runs)
    added_mb = statistics.median(run["added_mb"] for run in runs)
    passed = added_ms <= BUDGET_MS and added_mb <= BUDGET_MB
    print(
        json.dumps(
            {
                "question": "cost of importing all operators, sensors and triggers over `from airflow.sdk import DAG`",
                "runs": options.runs,
                "baseline_ms": round(statistics.median(run["baseline_ms"] for run in runs), 1),
                "added_ms": round(added_ms, 1),
                "added_ms_on_the_clock": round(statistics.median(run["clock_ms"] for run in runs), 1),
                "added_mb": round(added_mb, 2),
                "budget_ms": BUDGET_MS,
                "budget_mb": BUDGET_MB,
                "heavy_modules": runs[-1]["heavy"],
                "passed": passed,
            }
        )
    )
    return 1 if options.check and not passed else 0


if __name__ == "__main__":
    sys.exit(main())
