"""Train a small neural network on handwritten digits in as many jobs as it takes: each goes on from a checkpoint.

It runs on the cluster, in the job's working directory, which keeps the checkpoints. When it gets SIGUSR1, it writes one
after the current epoch and ends. The last job writes the model, its metrics, the learning curve, and the marker
`train.done`. It needs scikit-learn and matplotlib, nothing of Airflow or Prefect.
"""

import argparse
import json
import signal
import time
from pathlib import Path
from typing import Any

CHECKPOINTS = Path("ckpt")
stopping = False


def stop(*_: object) -> None:
    """Remember that the job's time is nearly over."""
    global stopping
    stopping = True


def main() -> None:
    """Go on with the training until it is done or the time is over."""
    signal.signal(signal.SIGUSR1, stop)  # before the slow imports
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--hidden", type=int, default=64, help="neurons in the hidden layer")
    parser.add_argument("--pause", type=float, default=2.3, help="seconds that each epoch takes longer than it must")
    arguments = parser.parse_args()

    import joblib
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    images, digits = load_digits(return_X_y=True)
    train_images, test_images, train_digits, test_digits = train_test_split(
        images, digits, test_size=0.25, stratify=digits, random_state=0
    )
    scaler = StandardScaler().fit(train_images)
    scaled_train, scaled_test = scaler.transform(train_images), scaler.transform(test_images)

    state: dict[str, Any] = {"network": MLPClassifier((arguments.hidden,), random_state=0), "curve": [], "began": []}
    if earlier := sorted(CHECKPOINTS.glob("epoch-*")):
        state = joblib.load(earlier[-1])
        print(f"going on from {earlier[-1]}", flush=True)
    network, curve = state["network"], state["curve"]
    state["began"].append(len(curve))

    CHECKPOINTS.mkdir(exist_ok=True)
    while len(curve) < arguments.epochs and not (stopping and len(curve) > state["began"][-1]):
        network.partial_fit(scaled_train, train_digits, classes=np.unique(digits))
        time.sleep(arguments.pause)
        accuracy = network.score(scaled_test, test_digits)
        curve.append({"step": len(curve) + 1, "loss": network.loss_, "accuracy": accuracy})
        with Path("metrics.jsonl").open("a") as lines:  # read while the job runs
            lines.write(json.dumps(curve[-1]) + "\n")
        print("epoch {step:3d}  loss {loss:.4f}  accuracy {accuracy:.4f}".format_map(curve[-1]), flush=True)
    if len(curve) > state["began"][-1]:
        write_checkpoint(state, f"epoch-{len(curve):04}")
    if len(curve) < arguments.epochs:
        print("the time is nearly over", flush=True)
        return

    joblib.dump(network, "model.joblib")
    metrics = {"accuracy": curve[-1]["accuracy"], "jobs_began_at": state["began"], "learning_curve": curve}
    Path("metrics.json").write_text(json.dumps(metrics, indent=2))
    draw(curve, state["began"])
    Path("train.done").touch()


def write_checkpoint(state: dict[str, Any], name: str) -> None:
    """Write a checkpoint that is whole as soon as it has its name."""
    import joblib

    draft = CHECKPOINTS / f".{name}"
    joblib.dump(state, draft)
    draft.rename(CHECKPOINTS / name)


def draw(curve: list[dict[str, Any]], began: list[int]) -> None:
    """Draw the loss, and where each job began."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot([point["step"] for point in curve], [point["loss"] for point in curve], marker="o")
    for number, step in enumerate(began, start=1):
        axes.axvline(step + 0.5, color="grey", linestyle=":")
        axes.annotate(f"job {number}", (step + 0.6, curve[0]["loss"]), color="grey")
    axes.set(xlabel="epoch", ylabel="loss", title="One training, several jobs")
    figure.savefig("learning_curve.svg")


if __name__ == "__main__":
    main()
