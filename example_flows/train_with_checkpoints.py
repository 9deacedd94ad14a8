"""Train a model that takes longer than a job may run: one task, as many jobs as it takes.

Five seconds before the time limit, the scheduler sends the training SIGUSR1. It writes a checkpoint and ends, and the
next job goes on from there, until the marker `train.done` is in the directory. The run's log tells of each job. A job
that runs out of memory or loses its node is followed by one with more memory, or without that node. One that has no
time for a checkpoint is followed by one with more.

    run_job: submit_job ─▶ wait_for_job ─▶ fetch_outputs

The data are the handwritten digits that ship with scikit-learn. Each epoch takes longer than it must (`pause`), so that
the time limit of this example stops the training twice. The interpreter that `python` names must have scikit-learn and
matplotlib.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from prefect import flow, runtime

from firecrest_core import Chain
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, run_job

SCRIPT = Path(__file__).parent.parent / "example_dags" / "jobs" / "train_with_checkpoints.py"
FOLDER = Path(os.environ.get("EXAMPLES_FOLDER", Path.home() / "firecrest-examples"), "trainings")


@flow(log_prints=True)
def train_with_checkpoints(
    epochs: int = 15,
    pause: float = 2.3,
    time_limit: str = "00:00:20",
    working_dir: str = os.environ.get("FIRECREST_WORKDIR", "/scratch"),
    partition: str | None = None,
    account: str | None = None,
    python: str = os.environ.get("EXAMPLES_PYTHON", "python3"),
    credentials: str | None = None,
) -> float:
    """Train a model in as many jobs as it takes, each from the checkpoint of the one before.

    Args:
        epochs: Passes over the training images.
        pause: Seconds that each epoch takes longer than it must.
        time_limit: Time limit of each job.
        working_dir: Directory on the cluster in which each run makes its own.
        partition: Partition; empty for the default one.
        account: Account or project; empty for the default one.
        python: Python on the cluster that has scikit-learn and matplotlib.
        credentials: Name of a saved block of credentials; if empty, the FIRECREST_* variables of the environment count.
    """
    run_id = runtime.flow_run.id
    folder = FOLDER / run_id
    job = FirecRESTJob(
        credentials=FirecRESTCredentials.load(credentials) if credentials else FirecRESTCredentials.from_environment(),
        name="train-with-checkpoints",
        # The signal reaches what srun has started.
        command=f"srun '{python}' {SCRIPT.name} --epochs {epochs} --pause {pause}",
        working_dir=f"{working_dir}/train_with_checkpoints/{run_id}",
        make_working_dir=True,
        memory="2G",
        time_limit=time_limit,
        partition=partition,
        account=account,
        chain=Chain(max_jobs=20, signal="USR1@5", done="train.done", checkpoint="ckpt/*"),
        escalate={
            "out_of_memory": {"memory": "x2", "max": "32G"},
            "time_limit": {"time_limit": "x2", "max": "01:00:00"},  # where it did not suffice for a checkpoint
            "node_failure": {"exclude": "node", "max": 3},
            "preempted": "wait",
        },
        metrics="metrics.jsonl",
        poll_interval=2,
    )
    results = ["model.joblib", "metrics.json", "learning_curve.svg"]
    result = run_job(job, inputs={str(SCRIPT): SCRIPT.name}, outputs=dict.fromkeys(results, f"{folder}/"))
    accuracy: float = json.loads((folder / "metrics.json").read_text())["accuracy"]
    jobs = [*(earlier.job_id for earlier in result.course.earlier_jobs), result.job_id]
    print(f"accuracy {accuracy:.4f} after the jobs {', '.join(jobs)}, see {folder}")
    return accuracy


if __name__ == "__main__":
    train_with_checkpoints()
