"""Measure how long a chain stands still between two of its jobs, with and without ``ahead``.

    python -m benchmarks.chain_ahead [--jobs N] [--check]

The chains run one after the other on an embedded FirecREST with two cores, and need one. First they are alone, then
eight other jobs, of a second each, always wait in the queue. The scheduler starts jobs in the order of their
submission, also those that had to wait for another one. That is how a site orders its queue by ``priority/basic`` or
with ``PriorityFlags=ACCRUE_ALWAYS``; on others, less is gained. The last line is a JSON object:

- ``free``, ``full``: without and with other jobs, the seconds from the end of a job's work to the beginning of the next
  one's, as the median, for the chain that submits it ``after_the_end`` and for the one that submits it ``ahead``

``--check`` fails if ``ahead`` does not halve the time in the full queue.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.campaign import Campaign
from firecrest_core.chain import Chain
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, claim_identity
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST, Settings

# As many as the other core gets through while one of the chain runs.
OTHERS = 8
SCRIPT = """#!/bin/bash
mkdir -p ckpt; date +%s.%N >> begins; n=$(wc -l < begins)
sleep 9
touch ckpt/$n; [ $n -lt {jobs} ] || touch done
date +%s.%N >> ends
"""


def main() -> None:
    """Measure, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=4, help="jobs of each chain (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="fail if ahead does not halve the time in a full queue")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as root,
        LocalFirecREST(Settings(root=Path(root), cores=2, accounting_lag=0.2)) as server,
    ):
        report = asyncio.run(measured(server.environ, given.jobs))
    print(json.dumps(report))
    full = report["full"]
    if given.check and full["ahead"] > full["after_the_end"] / 2:
        sys.exit("a job that was submitted ahead must begin in half the time")


async def measured(environ: Mapping[str, str], jobs: int) -> dict[str, dict[str, float]]:
    """Return the median of the seconds between two jobs, of each chain in each queue."""
    report: dict[str, dict[str, float]] = {"free": {}, "full": {}}
    workdir = environ["FIRECREST_WORKDIR"]
    async with FirecRESTClient(Connection.from_environment(environ)) as client:
        for queue, gaps in report.items():
            others = asyncio.create_task(fill(client.system(), workdir)) if queue == "full" else None
            for name, ahead in (("after_the_end", False), ("ahead", True)):
                gaps[name] = await gap_of(client.system(), workdir, jobs, f"{queue}-{name}", ahead=ahead)
            if others is not None:
                others.cancel()
    return report


async def fill(system: System, workdir: str) -> None:
    """Let the jobs of others wait in the queue at any time."""
    spec = JobSpec(working_dir=workdir, command="sleep 1", name="other", stdout="/dev/null", time_limit=1)
    while True:
        rows = await system.get_jobs()
        for _ in range(OTHERS - sum(row.name == "other" and row.state is JobState.PENDING for row in rows)):
            await lifecycle.submit(system, spec)
        await asyncio.sleep(0.3)


async def gap_of(system: System, workdir: str, jobs: int, name: str, *, ahead: bool) -> float:
    """Run a chain, and return the median of the seconds between the work of two of its jobs."""
    directory = f"{workdir}/{name}"
    await system.make_directory(directory)
    chain = Chain(max_jobs=jobs, signal="B:USR1@60", done="done", checkpoint="ckpt/*", ahead=ahead)
    spec = JobSpec(working_dir=directory, script=SCRIPT.replace("{jobs}", str(jobs)), time_limit=10)
    campaign = Campaign(system, spec, chain=chain)
    job: Job | JobResult = await campaign.submit(ClaimKey(claim_identity(name)), first_attempt=True)
    while isinstance(job, Job):
        async with campaign.submitting_ahead(job) as on_status:
            result = await lifecycle.wait(system, job, on_status=on_status)
        job = await campaign.follow(job, result)
    assert job.succeeded, job.summary()
    begins, ends = [
        [float(line) for line in (await system.download_small(f"{directory}/{file}", most=1 << 16)).split()]
        for file in ("begins", "ends")
    ]
    return round(statistics.median(begin - end for begin, end in zip(begins[1:], ends, strict=False)), 1)


if __name__ == "__main__":
    main()
