"""Measure what importing a face costs in addition to importing its engine.

Airflow parses every DAG file repeatedly, each time in a new process, and Prefect imports each collection in every
process that loads blocks. So each run here is a new process. It imports the engine (``from airflow.sdk import DAG``;
``import prefect``), then the face (all operators, sensors and triggers; ``import prefect_firecrest``), and reports what
the second import added: processor time, elapsed time and resident memory. The budget is a share of the processor time
that the engine's import takes in the same process, so it is the same on slow and on busy machines. Byte code is written
and used, as it is for users. The last line is a JSON object with the medians.

    python benchmarks/import_cost.py [airflow | prefect] [--runs N] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

BUDGET = {"airflow": {"percent": 4.0, "mb": 8.0}, "prefect": {"percent": 6.0, "mb": None}}

ENGINE = {"airflow": "from airflow.sdk import DAG", "prefect": "import prefect"}
FACE = {
    "airflow": """
import airflow_provider_firecrest.operators
import airflow_provider_firecrest.sensors
import airflow_provider_firecrest.triggers.file
import airflow_provider_firecrest.triggers.job
import airflow_provider_firecrest.triggers.transfer
""",
    "prefect": "import prefect_firecrest",
}

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
ENGINE
baseline_ms = 1000 * (time.process_time() - begin)
memory, before, begin, began_at = resident(), set(sys.modules), time.process_time(), time.perf_counter()
FACE
added_ms, elapsed_ms = 1000 * (time.process_time() - begin), 1000 * (time.perf_counter() - began_at)
added_mb = resident() - memory
heavy = {"firecrest", "httpx", "tenacity", "cryptography", "firecrest_core.api.client"} & (set(sys.modules) - before)
print(json.dumps({
    "baseline_ms": baseline_ms, "added_ms": added_ms, "elapsed_ms": elapsed_ms, "added_mb": added_mb,
    "heavy": sorted(heavy),
}))
"""


def measure(face: str) -> dict:
    """Import both in a new process and return what it reports."""
    code = ONE_RUN.replace("ENGINE", ENGINE[face]).replace("FACE", FACE[face])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(output.stdout.splitlines()[-1])


def main() -> int:
    """Print the medians; with ``--check`` return 1 when they are over the budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("face", nargs="?", choices=list(FACE), default="airflow", help="(default: airflow)")
    parser.add_argument("--runs", type=int, default=9, help="processes to take the median of (default: 9)")
    parser.add_argument("--check", action="store_true", help="fail when the medians are over the budget")
    options = parser.parse_args()

    budget = BUDGET[options.face]
    measure(options.face)  # warm-up: writes byte code, fills the file cache
    runs = [measure(options.face) for _ in range(options.runs)]
    added_ms = statistics.median(run["added_ms"] for run in runs)
    added_mb = statistics.median(run["added_mb"] for run in runs)
    percent = statistics.median(100 * run["added_ms"] / run["baseline_ms"] for run in runs)
    passed = percent <= budget["percent"] and (budget["mb"] is None or added_mb <= budget["mb"])
    print(
        json.dumps(
            {
                "question": f"cost of importing the {options.face} face over `{ENGINE[options.face]}`",
                "runs": options.runs,
                "baseline_ms": round(statistics.median(run["baseline_ms"] for run in runs), 1),
                "added_ms": round(added_ms, 1),
                "added_percent": round(percent, 2),
                "added_ms_elapsed": round(statistics.median(run["elapsed_ms"] for run in runs), 1),
                "added_mb": round(added_mb, 2),
                "budget_percent": budget["percent"],
                "budget_mb": budget["mb"],
                "heavy_modules": runs[-1]["heavy"],
                "passed": passed,
            }
        )
    )
    return 1 if options.check and not passed else 0


if __name__ == "__main__":
    sys.exit(main())
