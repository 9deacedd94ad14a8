"""Run a Python function as a job, for each of several arguments, and add up what they return.

`@firecrest` above `@task` sends the function and its arguments, runs it on a compute node, and returns its value: there
is no script, and no file to fetch. It is mapped like any other task.

    count_hits (one job a seed) ─▶ estimate

Each job throws random points at a square and counts those in the circle, so all together estimate π. The interpreter
that `python` names must be of the same minor version as this one; it needs no packages.
"""

from __future__ import annotations

import os
import random

from prefect import flow, runtime, task, unmapped

from prefect_firecrest import firecrest


def count_hits(seed: int, points: int) -> int:
    """Count the points of the square that are in the circle; this runs on the cluster."""
    numbers = random.Random(seed)
    hits = sum(numbers.random() ** 2 + numbers.random() ** 2 < 1 for _ in range(points))
    print(f"{hits} of {points} points are in the circle")
    return hits


@flow(log_prints=True)
def python_function(
    jobs: int = 3,
    points: int = 200_000,
    working_dir: str = os.environ.get("FIRECREST_WORKDIR", "/scratch"),
    partition: str | None = None,
    account: str | None = None,
    python: str = os.environ.get("EXAMPLES_PYTHON", "python3"),
    credentials: str | None = None,
) -> float:
    """Return π as all jobs together estimate it.

    Args:
        jobs: How many jobs.
        points: Points of each job.
        working_dir: Directory on the cluster in which each run makes its own.
        partition: Partition; the default one if left out.
        account: Account or project; the default one if left out.
        python: Python on the cluster, of the same minor version as this one.
        credentials: Name of a saved FirecRESTCredentials block; the FIRECREST_* variables if left out.
    """
    # What is known only here stands here. In a flow of your own, write @firecrest(…) and @task above the function.
    as_job = firecrest(
        credentials=credentials,
        working_dir=f"{working_dir}/python_function/{runtime.flow_run.id}",
        make_working_dir=True,
        time_limit=10,
        partition=partition,
        account=account,
        python=python,
        poll_interval=2,
    )
    hits = as_job(task(count_hits)).map(range(jobs), points=unmapped(points)).result()
    pi = 4 * sum(hits) / (jobs * points)
    print(f"π is about {pi:.4f}")
    return pi


if __name__ == "__main__":
    python_function()
