"""Sweep over a grid of parameters as one job array: one task and one submission, however many points there are.

    grid ─▶ score (one array, an element a point, with its files) ─▶ best

Each point is a support vector machine on the handwritten digits of scikit-learn. The interpreter that `python` names
must have scikit-learn. `parameter_sweep` does the same with a task and a job for each point.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_provider_firecrest.operators import FirecRESTArrayOperator

FOLDER = "{{ params.folder }}/{{ run_id }}/"

with DAG(
    dag_id="array_sweep",
    description="One job array for all points of a grid, then the best of them",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    tags=["example", "firecrest", "machine-learning"],
    params={
        "c": Param([1, 10], type="array", description="Penalties of a misclassified image"),
        "gamma": Param([0.0003, 0.001, 0.003], type="array", description="Widths of the kernel"),
        "folder": Param(
            os.environ.get("EXAMPLES_FOLDER", str(Path.home() / "firecrest-examples")) + "/array_sweeps",
            type="string",
            description="Folder on Airflow's side for the results",
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
        """Return the points: the element finds each value in the variable of its name."""
        return [{"C": c, "GAMMA": gamma} for c, gamma in itertools.product(params["c"], params["gamma"])]

    score = FirecRESTArrayOperator(
        task_id="score",
        over=grid(),
        command=(
            "'{{ params.python }}' sweep_point.py --c $C --gamma $GAMMA --result result-$SLURM_ARRAY_TASK_ID.json"
        ),
        working_dir="{{ params.working_dir }}/array_sweep/{{ run_id }}",
        make_working_dir=True,
        time_limit="00:10:00",
        partition="{{ params.partition }}",
        account="{{ params.account }}",
        inputs={str(Path(__file__).parent / "jobs" / "sweep_point.py"): "sweep_point.py"},
        outputs={"result-*.json": FOLDER},
        poll_interval=2,
    )

    @task
    def best(folder: str) -> dict:
        """Return the best point."""
        points = [json.loads(file.read_text()) for file in Path(folder).glob("result-*.json")]
        return max(points, key=lambda point: point["accuracy"])

    score >> best(FOLDER)
