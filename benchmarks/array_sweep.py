"""Compare the points of a sweep as one job array with a job for each point, on an embedded FirecREST.

    python -m benchmarks.array_sweep [--points N] [--check]

Both ways submit with a claim and wait to the end, in one event loop. The last line is a JSON object with, for each:

- ``submissions``, ``requests``: how many POSTs of a job, and how many requests in all
- ``seconds``: from the first submission to the last result; ``cpu_seconds``: of this process without the server's
- ``peak_kb``: memory that the waits take (tracemalloc)

``requests_ratio`` says how many times fewer requests the array needs. ``--check`` fails below 50.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.api.http import HTTPSession
from firecrest_core.connection import Connection
from firecrest_core.jobs.key import ClaimKey, claim_identity
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.points import in_arrays, over_points
from harness.firecrest import FirecRESTServer

LEAST_RATIO = 50.0


def main() -> None:
    """Measure both ways and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--check", action="store_true", help="fail if the array needs too many requests")
    given = parser.parse_args()
    points = [{"SEED": number} for number in range(given.points)]
    with tempfile.TemporaryDirectory() as root, FirecRESTServer(Path(root) / "cluster", "--cores", "8") as server:
        server.wait()
        connection = Connection.from_environment(server.variables)
        job = JobSpec(working_dir=server.variables["FIRECREST_WORKDIR"], command='echo "$SEED"', stdout="/dev/null")
        array = asyncio.run(measured(connection, [over_points(job, part) for part in in_arrays(points)]))
        singles = asyncio.run(measured(connection, [alone(job, point) for point in points]))
    ratio = singles["requests"] / array["requests"]
    print(json.dumps({"points": given.points, "array": array, "single": singles, "requests_ratio": round(ratio, 1)}))
    if given.check and ratio < LEAST_RATIO:
        sys.exit(f"an array must need at most 1/{LEAST_RATIO:.0f} of the requests")


def alone(job: JobSpec, point: dict[str, Any]) -> JobSpec:
    """Return the job of one point."""
    return JobSpec.from_mapping({**job.to_mapping(), "environment": {name: str(point[name]) for name in point}})


async def measured(connection: Connection, jobs: list[JobSpec]) -> dict[str, Any]:
    """Submit jobs, wait for them, and return what that took."""
    requests: Counter[str] = Counter()
    send = HTTPSession._send_once

    async def count(session: HTTPSession, method: str, url: str, options: dict[str, Any]) -> Any:
        requests[f"{method} {url.partition('?')[0].rpartition('/')[2]}"] += 1
        return await send(session, method, url, options)

    HTTPSession._send_once = count  # type: ignore[method-assign]
    tracemalloc.start()
    began, cpu = time.perf_counter(), time.process_time()
    try:
        async with FirecRESTClient(connection) as client:
            system = client.system()

            async def run(number: int, job: JobSpec) -> None:
                key = ClaimKey(claim_identity("benchmark", len(jobs), number))
                submitted = await lifecycle.submit(system, job, key, first_attempt=True)
                result = await lifecycle.wait(system, submitted)
                assert result.succeeded, result.summary()

            await asyncio.gather(*(run(number, job) for number, job in enumerate(jobs)))
    finally:
        HTTPSession._send_once = send  # type: ignore[method-assign]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "submissions": requests["POST jobs"],
        "requests": requests.total(),
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_kb": round(peak / 1024),
    }


if __name__ == "__main__":
    main()
