"""Run a Python function as a job, for each of several arguments, and add up what they return.

`@task.firecrest` sends the function and its arguments, runs it on a compute node, and returns its value: there is no
script, and no file to fetch. Airflow maps it like any other task.

    seeds ─▶ count_hits (one job a seed) ─▶ estimate

Each job throws random points at a square and counts those in the circle, so all together estimate π. The interpreter
that `python` names must be of the same minor version as Airflow's; it needs no packages.
"""

from __future__ import annotations

import os
import random

from airflow.sdk import DAG, Param, task

with DAG(
    dag_id="python_function",
    description="A Python function as a job, mapped over its arguments",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    tags=["example", "firecrest"],
    params={
        "jobs": Param(3, type="integer", minimum=1, description="How many jobs"),
        "points": Param(200_000, type="integer", minimum=1, description="Points of each job"),
        "working_dir": Param(
            os.environ.get("FIRECREST_WORKDIR", "/scratch"),
            type="string",
            description="Directory on the cluster in which each run makes its own",
        ),
        "partition": Param(None, type=["null", "string"], description="Partition; empty for the default one"),
        "account": Param(None, type=["null", "string"], description="Account or project; empty for the default one"),
        "python": Param(
            os.environ.get("EXAMPLES_PYTHON", "python3"),
            type="string",
            description="Python on the cluster, of the same minor version as Airflow's",
        ),
    },
):

    @task
    def seeds(params: dict) -> list[int]:
        """Choose a seed for each job."""
        return list(range(params["jobs"]))

    @task.firecrest(
        working_dir="{{ params.working_dir }}/python_function/{{ run_id }}",
        make_working_dir=True,
        time_limit=10,
        partition="{{ params.partition }}",
        account="{{ params.account }}",
        python="{{ params.python }}",
        poll_interval=2,
    )
    def count_hits(seed: int, params: dict) -> int:
        """Count the points of the square that are in the circle; this runs on the cluster."""
        points = random.Random(seed)
        hits = sum(points.random() ** 2 + points.random() ** 2 < 1 for _ in range(params["points"]))
        print(f"{hits} of {params['points']} points are in the circle")
        return hits

    @task
    def estimate(hits: list[int], params: dict) -> float:
        """Return π as all jobs together estimate it."""
        return 4 * sum(hits) / (len(hits) * params["points"])

    estimate(count_hits.expand(seed=seeds()))
