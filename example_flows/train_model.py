"""Train a model on a cluster and accept it only if it is good enough: a pipeline of machine learning.

The data set is exported on our side and staged with the training script. A job trains the model with the resources
that the parameters ask for; the model, its metrics and a plot of its learning curve are downloaded, and the run fails
if the accuracy is under `min_accuracy`. While the job runs, an artifact of the flow run shows the curves of loss and
accuracy.

    export_digits ─▶ upload_files ─▶ submit_job ─▶ wait_for_job ─▶ download_files ─▶ check_accuracy

The data are the handwritten digits that ship with scikit-learn: 1797 images of 8 × 8 pixels. The interpreter that
`python` names must have scikit-learn and matplotlib. Those train on CPUs: for a script of your own that uses a GPU,
ask for one with `gpus` and, if the site wants it, a `partition`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from prefect import flow, runtime, task

from firecrest_core.transfer import Transferred
from prefect_firecrest import (
    FirecRESTCredentials,
    FirecRESTJob,
    download_files,
    submit_job,
    upload_files,
    wait_for_job,
)

SCRIPT = Path(__file__).parent.parent / "example_dags" / "jobs" / "train_digits.py"
FOLDER = Path(os.environ.get("EXAMPLES_FOLDER", Path.home() / "firecrest-examples"), "models")


@task
def export_digits(folder: Path) -> Path:
    """Write the digits as a table, 64 pixels and the digit in each row; return its path."""
    import numpy as np
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    path = folder / "digits.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, np.column_stack([images, digits]), delimiter=",", fmt="%d")
    return path


@task
def check_accuracy(results: list[Transferred], min_accuracy: float) -> float:
    """Return the accuracy on the test images; fail if it is under `min_accuracy`."""
    files = {Path(result.local).name: result.local for result in results}
    metrics = json.loads(Path(files["metrics.json"]).read_text())
    accuracy = metrics["accuracy"]
    if accuracy < min_accuracy:
        raise ValueError(
            f"the model reads {accuracy:.1%} of the test images, under the {min_accuracy:.1%} that `min_accuracy` "
            "asks for"
        )
    return accuracy


@flow(log_prints=True)
def train_model(
    min_accuracy: float = 0.95,
    epochs: int = 40,
    hidden: int = 64,
    cpus: int = 1,
    gpus: int | None = None,
    time_limit: str = "00:10:00",
    working_dir: str = os.environ.get("FIRECREST_WORKDIR", "/scratch"),
    preset: str | None = "laptop",
    partition: str | None = None,
    account: str | None = None,
    python: str = os.environ.get("EXAMPLES_PYTHON", "python3"),
    credentials: str | None = None,
) -> float:
    """Train a model as a job, fetch it, and fail if it is not good enough.

    Args:
        min_accuracy: The run fails below it.
        epochs: Passes over the training images.
        hidden: Neurons in the hidden layer.
        cpus: CPUs for the job.
        gpus: GPUs for the job.
        time_limit: Time limit of the job.
        working_dir: Directory on the cluster in which each run makes its own.
        preset: Preset of the job, from firecrest-presets.toml; may be empty.
        partition: Partition; empty for the default one.
        account: Account or project; empty for the default one.
        python: Python on the cluster that has scikit-learn and matplotlib.
        credentials: Name of a saved block of credentials; if empty, the FIRECREST_* variables of the environment count.
    """
    run_id = runtime.flow_run.id
    folder = FOLDER / run_id
    firecrest = FirecRESTCredentials.load(credentials) if credentials else FirecRESTCredentials.from_environment()
    # The job as data: each field becomes the directive that the cluster's scheduler understands.
    job = FirecRESTJob(
        credentials=firecrest,
        preset=preset,  # what jobs on a system share; each field below counts more
        name="train-digits",
        command=f"'{python}' {SCRIPT.name} --data digits.csv --epochs {epochs} --hidden {hidden}",
        working_dir=f"{working_dir}/train_model/{run_id}",
        cpus_per_task=cpus,
        gpus=gpus,
        time_limit=time_limit,
        partition=partition,
        account=account,
        environment={"OMP_NUM_THREADS": str(cpus)},
        metrics="metrics.jsonl",
        poll_interval=2,
    )

    upload_files(firecrest, [export_digits(folder), SCRIPT], job.working_dir)
    wait_for_job(submit_job(job))
    files = ["model.joblib", "metrics.json", "learning_curve.png"]
    results = download_files(firecrest, [f"{job.working_dir}/{name}" for name in files], folder)
    accuracy = check_accuracy(results, min_accuracy)
    print(f"accuracy {accuracy:.4f}, see {folder}")
    return accuracy


if __name__ == "__main__":
    train_model()
