"""Measure what it costs a job to write down what it uses.

The scripts of one job with and without its meter run in turn, as the scheduler starts them, each in a directory with a
claim of its own. So the difference is the time by which the job ends later: the meter's start and the last measurement.

    python benchmarks/usage_cost.py [--runs N] [--shell NAME] [--check]

The last line is a JSON object with the shortest times in milliseconds, because what else runs on the machine only adds
to them, the difference of the medians, and the ratio. ``--check`` fails if the meter costs 50 ms or more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from firecrest_core.claims.bound_submission import BoundSubmission
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec

MOST = 50.0


def main() -> None:
    """Run the scripts in turn and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="how often each of the two scripts runs")
    parser.add_argument("--shell", default="bash", help="the shell that runs them")
    parser.add_argument("--check", action="store_true", help="fail if the budget is exceeded")
    given = parser.parse_args()
    shell = shutil.which(given.shell) or sys.exit(f"there is no {given.shell}")
    times: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as root:
        for number in range(given.runs):
            for usage in times:
                workdir = Path(root, f"{number}-{usage}")
                workdir.mkdir()
                times[usage].append(1000 * job_time(shell, workdir, usage))
    without, with_meter = min(times[False]), min(times[True])
    report = {
        "without_ms": round(without, 2),
        "with_ms": round(with_meter, 2),
        "cost_ms": round(with_meter - without, 2),
        "median_cost_ms": round(median(times[True]) - median(times[False]), 2),
        "ratio": round(with_meter / without, 2),
    }
    print(json.dumps(report))
    if given.check and with_meter - without >= MOST:
        sys.exit(f"the meter may cost a job less than {MOST:.0f} ms")


def job_time(shell: str, workdir: Path, usage: bool) -> float:
    """Return the seconds that a job of nothing takes."""
    spec = JobSpec(working_dir=str(workdir), script=f"#!{shell}\n:\n", usage=usage)
    script = workdir / "script"
    script.write_text(BoundSubmission.bind(spec, ClaimKey("task")).request().script or "")
    environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "57", "SLURM_CPUS_ON_NODE": "2"}
    begun = time.perf_counter()
    subprocess.run([shell, str(script)], env=environment, check=True, stdin=subprocess.DEVNULL)
    passed = time.perf_counter() - begun
    if (workdir / ".firecrest/task/0.0/usage.json").exists() != usage:
        sys.exit("the meter has not written its file")
    return passed


if __name__ == "__main__":
    main()
