"""Train a model on a cluster and accept it only if it is good enough: a pipeline of machine learning.

The data set is exported on Airflow's side. One task makes a directory on the cluster, uploads the data set and the
training script, trains the model in a job with the resources that the parameters ask for, and downloads the model, its
metrics and a plot of its learning curve. The run fails if the accuracy is under `min_accuracy`. While the job runs, its
page in HPC Jobs shows the curves of loss and accuracy.

    export_digits ─▶ train ─▶ check_accuracy

The data are the handwritten digits that ship with scikit-learn: 1797 images of 8 × 8 pixels. The interpreter
that `python` names must have scikit-learn and matplotlib. The script trains on CPUs. For a script of your own
that uses a GPU, set `gpus` and, if the site needs it, `partition`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator

# A directory for each run, on the cluster and on our side.
WORKING_DIR = "{{ params.working_dir }}/train_model/{{ run_id }}"
FOLDER = "{{ params.folder }}/{{ run_id }}"

with DAG(
    dag_id="train_model",
    description="Train a model as a job, fetch it, and fail if it is not good enough",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    tags=["example", "firecrest", "machine-learning"],
    params={
        "min_accuracy": Param(0.95, type="number", minimum=0, maximum=1, description="The run fails below it"),
        "epochs": Param(40, type="integer", minimum=1, description="Passes over the training images"),
        "hidden": Param(64, type="integer", minimum=1, description="Neurons in the hidden layer"),
        "cpus": Param(1, type="integer", minimum=1, description="CPUs for the job"),
        "gpus": Param(0, type="integer", minimum=0, description="GPUs for the job"),
        "time_limit": Param("00:10:00", type="string", description="Time limit of the job"),
        "folder": Param(
            os.environ.get("EXAMPLES_FOLDER", str(Path.home() / "firecrest-examples")) + "/models",
            type="string",
            description="Folder on Airflow's side for the data set and the results",
        ),
        "working_dir": Param(
            os.environ.get("FIRECREST_WORKDIR", "/scratch"),
            type="string",
            description="Directory on the cluster in which each run makes its own",
        ),
        "preset": Param(
            "laptop",
            type=["null", "string"],
            description="Preset of the job, from firecrest-presets.toml; may be empty",
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

    @task
    def export_digits(folder: str) -> None:
        """Write the digits as a table, 64 pixels and the digit in each row."""
        import numpy as np
        from sklearn.datasets import load_digits

        images, digits = load_digits(return_X_y=True)
        path = Path(folder, "digits.csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(path, np.column_stack([images, digits]), delimiter=",", fmt="%d")

    # The job as data: each field becomes the directive that the cluster's scheduler understands.
    train = FirecRESTSubmitOperator(
        task_id="train",
        job={
            "name": "train-digits",
            "command": (
                "'{{ params.python }}' train_digits.py --data digits.csv "
                "--epochs {{ params.epochs }} --hidden {{ params.hidden }}"
            ),
            "cpus_per_task": "{{ params.cpus }}",
            "gpus": "{{ params.gpus or '' }}",
            "time_limit": "{{ params.time_limit }}",
            "partition": "{{ params.partition or '' }}",
            "account": "{{ params.account or '' }}",
            "environment": {"OMP_NUM_THREADS": "{{ params.cpus }}"},
        },
        # What jobs on a system share; each field above counts more.
        preset="{{ params.preset or '' }}",
        working_dir=WORKING_DIR,
        make_working_dir=True,
        inputs={
            FOLDER + "/digits.csv": "digits.csv",
            str(Path(__file__).parent / "jobs" / "train_digits.py"): "train_digits.py",
        },
        outputs={
            "model.joblib": FOLDER + "/",
            "metrics.json": FOLDER + "/",
            "learning_curve.png": FOLDER + "/",
        },
        metrics="metrics.jsonl",
        poll_interval=2,
    )

    @task
    def check_accuracy(folder: str, params: dict) -> float:
        """Return the accuracy on the test images; fail if it is under `min_accuracy`."""
        metrics = json.loads(Path(folder, "metrics.json").read_text())
        accuracy = metrics["accuracy"]
        if accuracy < params["min_accuracy"]:
            raise AirflowFailException(
                f"the model reads {accuracy:.1%} of the test images, under the {params['min_accuracy']:.1%} "
                "that `min_accuracy` asks for"
            )
        print(f"accuracy {accuracy:.4f} on {metrics['test_images']} test images, see {folder}")
        return accuracy

    export_digits(FOLDER) >> train >> check_accuracy(FOLDER)
