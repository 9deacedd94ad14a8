"""Sweep over a grid of parameters: a job for each point, all at once, then one table and one plot.

The grid is made when the DAG runs, so its size is a parameter too: Airflow maps the submit task over it (dynamic task
mapping). The tasks wait deferred, so a hundred jobs in the queue hold no worker slot.

    grid ───────────┬▶ score (one job a point) ─▶ result_files ─▶ download_results ─▶ reduce
    make_directory ─┴▶ upload_script ▲

Each point is a support vector machine on the handwritten digits of scikit-learn. The interpreter that `python`
names must have scikit-learn; the reduce step needs matplotlib on Airflow's side.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_provider_firecrest.operators import (
    FirecRESTDownloadOperator,
    FirecRESTMakeDirectoryOperator,
    FirecRESTSubmitOperator,
    FirecRESTUploadOperator,
)

WORKING_DIR = "{{ params.working_dir }}/parameter_sweep/{{ run_id }}"
FOLDER = "{{ params.folder }}/{{ run_id }}"

with DAG(
    dag_id="parameter_sweep",
    description="One job for each point of a grid, then one table and one plot",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    tags=["example", "firecrest", "machine-learning"],
    params={
        "c": Param([1, 10], type="array", description="Penalties of a misclassified image"),
        "gamma": Param([0.0003, 0.001, 0.003], type="array", description="Widths of the kernel"),
        "folder": Param(
            os.environ.get("EXAMPLES_FOLDER", str(Path.home() / "firecrest-examples")) + "/sweeps",
            type="string",
            description="Folder on Airflow's side for the table and the plot",
        ),
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
            description="Python on the cluster that has scikit-learn",
        ),
    },
):

    @task
    def grid(params: dict) -> list[dict]:
        """Make a job for each point of the grid."""
        return [
            {
                "name": f"sweep-{index}",
                "command": (
                    f"'{params['python']}' sweep_point.py --c {c} --gamma {gamma} --result result-{index}.json"
                ),
                "time_limit": "00:10:00",
                "partition": params["partition"],
                "account": params["account"],
            }
            for index, (c, gamma) in enumerate(itertools.product(params["c"], params["gamma"]))
        ]

    make_directory = FirecRESTMakeDirectoryOperator(task_id="make_directory", path=WORKING_DIR)

    upload_script = FirecRESTUploadOperator(
        task_id="upload_script",
        source_path=str(Path(__file__).parent / "jobs" / "sweep_point.py"),
        target_path=WORKING_DIR + "/sweep_point.py",
    )

    jobs = grid()
    score = FirecRESTSubmitOperator.partial(task_id="score", working_dir=WORKING_DIR, poll_interval=2).expand(job=jobs)

    @task
    def result_files(jobs: list[dict], working_dir: str) -> list[str]:
        """Name the file that each job has written."""
        return [f"{working_dir}/result-{index}.json" for index in range(len(jobs))]

    files = result_files(jobs, WORKING_DIR)
    download_results = FirecRESTDownloadOperator(
        task_id="download_results", remote_files=files, local_path=FOLDER + "/points/"
    )

    @task
    def reduce(folder: str) -> dict:
        """Make the table `sweep.csv` and the plot `sweep.png`; return the best point."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        points = [json.loads(file.read_text()) for file in Path(folder, "points").glob("result-*.json")]
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

    make_directory >> upload_script >> score >> files
    download_results >> reduce(FOLDER)
