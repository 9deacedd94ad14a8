"""Train a model that takes longer than a job may run: one task, as many jobs as it takes.

Five seconds before the time limit, the scheduler sends the training SIGUSR1. It writes a checkpoint and ends, and the
next job goes on from there, until the marker `train.done` is in the directory. The task's log tells of each job. A job
that runs out of memory or loses its node is followed by one with more memory, or without that node. One that has no
time for a checkpoint is followed by one with more.

    train ─▶ report

The data are the handwritten digits that ship with scikit-learn. Each epoch takes longer than it must (`pause`), so that
the time limit of this example stops the training twice. The interpreter that `python` names must have scikit-learn and
matplotlib.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core import Chain

# A directory for each run, on the cluster and on our side.
WORKING_DIR = "{{ params.working_dir }}/train_with_checkpoints/{{ run_id }}"
FOLDER = "{{ params.folder }}/{{ run_id }}"

with DAG(
    dag_id="train_with_checkpoints",
    description="Train a model in as many jobs as it takes, each from the checkpoint of the one before",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    tags=["example", "firecrest", "machine-learning"],
    params={
        "epochs": Param(15, type="integer", minimum=1, description="Passes over the training images"),
        "pause": Param(2.3, type="number", minimum=0, description="Seconds that each epoch takes longer than it must"),
        "time_limit": Param("00:00:20", type="string", description="Time limit of each job"),
        "folder": Param(
            os.environ.get("EXAMPLES_FOLDER", str(Path.home() / "firecrest-examples")) + "/trainings",
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
            description="Python on the cluster that has scikit-learn and matplotlib",
        ),
    },
):
    train = FirecRESTSubmitOperator(
        task_id="train",
        name="train-with-checkpoints",
        # The signal reaches what srun has started.
        command=(
            "srun '{{ params.python }}' train_with_checkpoints.py "
            "--epochs {{ params.epochs }} --pause {{ params.pause }}"
        ),
        working_dir=WORKING_DIR,
        make_working_dir=True,
        memory="2G",
        time_limit="{{ params.time_limit }}",
        partition="{{ params.partition or '' }}",
        account="{{ params.account or '' }}",
        chain=Chain(max_jobs=20, signal="USR1@5", done="train.done", checkpoint="ckpt/*"),
        escalate={
            "out_of_memory": {"memory": "x2", "max": "32G"},
            "time_limit": {"time_limit": "x2", "max": "01:00:00"},  # where it did not suffice for a checkpoint
            "node_failure": {"exclude": "node", "max": 3},
            "preempted": "wait",
        },
        inputs={str(Path(__file__).parent / "jobs" / "train_with_checkpoints.py"): "train_with_checkpoints.py"},
        outputs={
            "model.joblib": FOLDER + "/",
            "metrics.json": FOLDER + "/",
            "learning_curve.svg": FOLDER + "/",
        },
        metrics="metrics.jsonl",
        poll_interval=2,
    )

    @task
    def report(folder: str, job: dict) -> float:
        """Return the accuracy on the test images, and say which jobs it took."""
        accuracy = json.loads(Path(folder, "metrics.json").read_text())["accuracy"]
        jobs = [*(earlier["job_id"] for earlier in job["course"]["earlier_jobs"]), job["job_id"]]
        print(f"accuracy {accuracy:.4f} after the jobs {', '.join(jobs)}, see {folder}")
        return accuracy

    report(FOLDER, train.output)
