"""Score one point of the grid: a support vector machine on handwritten digits, cross-validated.

It runs on the cluster and needs scikit-learn, which contains the digits.
"""

import argparse
import json
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC


def main() -> None:
    """Train and score the model, and write its accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--c", type=float, required=True, help="penalty of a misclassified image")
    parser.add_argument("--gamma", type=float, required=True, help="width of the kernel")
    parser.add_argument("--result", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()

    images, digits = load_digits(return_X_y=True)
    scores = cross_val_score(SVC(C=arguments.c, gamma=arguments.gamma), images, digits, cv=3)
    result = {
        "c": arguments.c,
        "gamma": arguments.gamma,
        "accuracy": scores.mean(),
        "deviation": scores.std(),
    }
    arguments.result.write_text(json.dumps(result))
    print(result)


if __name__ == "__main__":
    main()
