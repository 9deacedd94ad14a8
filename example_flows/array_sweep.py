"""Sweep over a grid of parameters as one job array: one submission, however many points there are.

    run_array (one array, an element a point, with its files) ─▶ best

Each point is a support vector machine on the handwritten digits of scikit-learn. The interpreter that `python` names
must have scikit-learn. `parameter_sweep` does the same with a job for each point.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

from prefect import flow, runtime, task

from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, run_array

SCRIPT = Path(__file__).parent.parent / "example_dags" / "jobs" / "sweep_point.py"
FOLDER = Path(os.environ.get("EXAMPLES_FOLDER", Path.home() / "firecrest-examples"), "array_sweeps")


@task
def best(files: list[str]) -> dict[str, Any]:
    """Return the best point."""
    points = [json.loads(Path(file).read_text()) for file in files]
    return max(points, key=lambda point: point["accuracy"])


@flow(log_prints=True)
def array_sweep(
    c: tuple[float, ...] = (1, 10),
    gamma: tuple[float, ...] = (0.0003, 0.001, 0.003),
    working_dir: str = os.environ.get("FIRECREST_WORKDIR", "/scratch"),
    partition: str | None = None,
    account: str | None = None,
    python: str = os.environ.get("EXAMPLES_PYTHON", "python3"),
    credentials: str | None = None,
) -> dict[str, Any]:
    """Run an element of a job array for each point of a grid; return the best point.

    Args:
        c: Penalties of a misclassified image.
        gamma: Widths of the kernel.
        working_dir: Directory on the cluster in which each run makes its own.
        partition: Partition; empty for the default one.
        account: Account or project; empty for the default one.
        python: Python on the cluster that has scikit-learn.
        credentials: Name of a saved block of credentials; if empty, the FIRECREST_* variables of the environment count.
    """
    run_id = runtime.flow_run.id
    job = FirecRESTJob(
        credentials=FirecRESTCredentials.load(credentials) if credentials else FirecRESTCredentials.from_environment(),
        name="array-sweep",
        command=f"'{python}' {SCRIPT.name} --c $C --gamma $GAMMA --result result-$SLURM_ARRAY_TASK_ID.json",
        working_dir=f"{working_dir}/array_sweep/{run_id}",
        time_limit="00:10:00",
        partition=partition,
        account=account,
        poll_interval=2,
    )
    points = [{"C": penalty, "GAMMA": width} for penalty, width in itertools.product(c, gamma)]
    results = run_array(
        job, over=points, local_files=[str(SCRIPT)], outputs={"result-*.json": f"{FOLDER}/{run_id}/{{number}}/"}
    )
    found = best([file for result in results for file in result.fetched])
    print(f"best: accuracy {found['accuracy']:.4f} with C = {found['c']:g} and gamma = {found['gamma']:g}")
    return found


if __name__ == "__main__":
    array_sweep()
