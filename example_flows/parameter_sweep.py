"""Sweep over a grid of parameters: a job for each point, all at once, then one table and one plot.

`submit_job` and `wait_for_job` are mapped over the grid. However many jobs there are, waiting for all of them costs
the cluster one request an interval.

    upload_files ─▶ submit_job (one a point) ─▶ wait_for_job ─▶ download_files ─▶ reduce

Each point is a support vector machine on the handwritten digits of scikit-learn. The interpreter that `python` names
must have scikit-learn; the reduce step needs matplotlib on our side.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.task_runners import ThreadPoolTaskRunner

from firecrest_core.transfer import Transferred
from prefect_firecrest import (
    FirecRESTCredentials,
    FirecRESTJob,
    download_files,
    submit_job,
    upload_files,
    wait_for_job,
)

SCRIPT = Path(__file__).parent.parent / "example_dags" / "jobs" / "sweep_point.py"
FOLDER = Path(os.environ.get("EXAMPLES_FOLDER", Path.home() / "firecrest-examples"), "sweeps")


@task
def reduce(results: list[Transferred], folder: Path) -> dict[str, Any]:
    """Make the table `sweep.csv` and the plot `sweep.png`; return the best point."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points = [json.loads(Path(result.local).read_text()) for result in results]
    points.sort(key=lambda point: (point["c"], point["gamma"]))

    with Path(folder, "sweep.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["c", "gamma", "accuracy", "deviation"])
        writer.writeheader()
        writer.writerows(points)

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for c, line in itertools.groupby(points, key=lambda point: point["c"]):
        line = list(line)
        axes.errorbar(
            [point["gamma"] for point in line],
            [point["accuracy"] for point in line],
            yerr=[point["deviation"] for point in line],
            marker="o",
            capsize=3,
            label=f"C = {c:g}",
        )
    axes.set(xscale="log", xlabel="gamma", ylabel="accuracy (3-fold)", title="Support vector machine on digits")
    axes.legend()
    figure.savefig(Path(folder, "sweep.png"), dpi=150)
    return max(points, key=lambda point: point["accuracy"])


@flow(log_prints=True, task_runner=ThreadPoolTaskRunner(max_workers=100))
def parameter_sweep(
    c: tuple[float, ...] = (1, 10),
    gamma: tuple[float, ...] = (0.0003, 0.001, 0.003),
    working_dir: str = os.environ.get("FIRECREST_WORKDIR", "/scratch"),
    partition: str | None = None,
    account: str | None = None,
    python: str = os.environ.get("EXAMPLES_PYTHON", "python3"),
    credentials: str | None = None,
) -> dict[str, Any]:
    """Run a job for each point of a grid; return the best point.

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
    folder = FOLDER / run_id
    working_dir = f"{working_dir}/parameter_sweep/{run_id}"
    firecrest = FirecRESTCredentials.load(credentials) if credentials else FirecRESTCredentials.from_environment()
    points = list(enumerate(itertools.product(c, gamma)))
    jobs = [
        FirecRESTJob(
            credentials=firecrest,
            name=f"sweep-{index}",
            command=f"'{python}' {SCRIPT.name} --c {penalty} --gamma {width} --result result-{index}.json",
            working_dir=working_dir,
            time_limit="00:10:00",
            partition=partition,
            account=account,
            poll_interval=2,
        )
        for index, (penalty, width) in points
    ]

    upload_files(firecrest, SCRIPT, working_dir)
    wait_for_job.map(submit_job.map(jobs)).result()
    results = download_files(
        firecrest, [f"{working_dir}/result-{index}.json" for index, _ in points], folder / "points"
    )
    best = reduce(results, folder)
    print(f"best: accuracy {best['accuracy']:.4f} with C = {best['c']:g} and gamma = {best['gamma']:g}, see {folder}")
    return best


if __name__ == "__main__":
    parameter_sweep()
