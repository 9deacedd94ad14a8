"""Measure what a large job array costs: a poll while it waits, a poll when it has ended, and what a result takes.

    python benchmarks/array_cost.py [--elements N …]

The last line is a JSON object with, for each number of elements:

- ``waiting_ms``: one poll of an array whose elements all wait in one row
- ``ended_ms``: one poll of an array that has a row for each element
- ``job_bytes``, ``result_bytes``: the job and its result as JSON, as XComs and events have them; every fifth element
  has failed
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from firecrest_core.api.models import JobInfo
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import parse_status
from firecrest_core.result import JobResult
from firecrest_core.watch.tracker import JobTracker


def row(job_id: str, state: str) -> JobInfo:
    """Return a row of a status answer."""
    return JobInfo.model_validate({"jobId": job_id, "status": {"state": state, "exitCode": 0}})


def milliseconds(work: Callable[[], Any]) -> float:
    """Return the least time that some work takes."""
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return round(1000 * min(taken), 3)


def measure(elements: int) -> dict[str, Any]:
    """Return what an array of so many elements costs."""
    expected = Indices([range(elements)])
    job = Job(system="rig", job_id="57", array_indices=expected)
    waiting = [row(f"57_[0-{elements - 1}%50]", "PENDING")]
    ended = [row(f"57_{index}", "COMPLETED" if index % 5 else "FAILED") for index in range(elements)]
    result = JobTracker(job, 0.0, on_message=str).on_status(parse_status(ended, "57", expected), 1.0)
    assert isinstance(result, JobResult)
    return {
        "waiting_ms": milliseconds(lambda: parse_status(waiting, "57", expected)),
        "ended_ms": milliseconds(lambda: parse_status(ended, "57", expected)),
        "job_bytes": len(json.dumps(job.to_dict())),
        "result_bytes": len(json.dumps(result.to_dict())),
    }


def main() -> None:
    """Measure arrays of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--elements", type=int, nargs="+", default=[100, 10_000, 100_000])
    arguments = parser.parse_args()
    print(json.dumps({str(elements): measure(elements) for elements in arguments.elements}))


if __name__ == "__main__":
    main()
