"""Train a small neural network on handwritten digits; write the model, its metrics and its learning curve.

It runs on the cluster, in the job's working directory. It needs scikit-learn and matplotlib, nothing of Airflow.
"""

import argparse
import json
from pathlib import Path

import joblib
import matplotlib
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    """Train the network and write its files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CSV file: 64 pixels and the digit in each row")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--hidden", type=int, default=64, help="neurons in the hidden layer")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    table = np.loadtxt(arguments.data, delimiter=",")
    images, digits = table[:, :-1], table[:, -1].astype(int)
    train_images, test_images, train_digits, test_digits = train_test_split(
        images, digits, test_size=0.25, stratify=digits, random_state=arguments.seed
    )
    scaler = StandardScaler().fit(train_images)
    network = MLPClassifier(hidden_layer_sizes=(arguments.hidden,), random_state=arguments.seed)
    scaled_train, scaled_test = scaler.transform(train_images), scaler.transform(test_images)

    curve = []
    for epoch in range(1, arguments.epochs + 1):
        network.partial_fit(scaled_train, train_digits, classes=np.unique(digits))
        curve.append(
            {
                "epoch": epoch,
                "loss": network.loss_,
                "train_accuracy": network.score(scaled_train, train_digits),
                "test_accuracy": network.score(scaled_test, test_digits),
            }
        )
        with Path("metrics.jsonl").open("a") as lines:  # read while the job runs
            lines.write(json.dumps(curve[-1]) + "\n")
        print("epoch {epoch:3d}  loss {loss:.4f}  accuracy {test_accuracy:.4f}".format_map(curve[-1]), flush=True)

    joblib.dump(make_pipeline(scaler, network), "model.joblib")

    metrics = {
        "accuracy": curve[-1]["test_accuracy"],
        "train_images": len(train_images),
        "test_images": len(test_images),
        "epochs": arguments.epochs,
        "hidden": arguments.hidden,
        "learning_curve": curve,
    }
    Path("metrics.json").write_text(json.dumps(metrics, indent=2))

    epochs = [point["epoch"] for point in curve]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(epochs, [point["train_accuracy"] for point in curve], label="training images")
    axes.plot(epochs, [point["test_accuracy"] for point in curve], label="test images")
    axes.set(xlabel="epoch", ylabel="accuracy", title="Learning curve on handwritten digits")
    axes.legend()
    figure.savefig("learning_curve.png", dpi=150)


if __name__ == "__main__":
    main()
