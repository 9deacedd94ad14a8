"""Run the example DAGs in a real Airflow on an embedded FirecREST, and print their results.

In a terminal, everything stays up after the runs until Ctrl-C. Without a terminal, or with KEEP=0 in the environment,
everything is stopped.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from demo.command import Outcome, run_command
from harness.airflow.deployment import USER
from harness.airflow.runs import DAGRun, wait_for_runs
from harness.airflow.stack import AirflowStack
from harness.examples import ROOT, copy_structure

ENERGY = DAGRun("structure_energy", "demo")
TRAINING = DAGRun("train_model", "demo")


def main() -> int:
    """Run the demo.

    :returns: the exit code, 0 if both runs succeeded
    """
    return run_command(start, "python -m demo", __doc__, ROOT / ".demo")


@contextlib.contextmanager
def start(home: Path, console: Console) -> Iterator[Outcome]:
    """Start Airflow and FirecREST, run both DAGs, and stop everything at the exit."""
    with AirflowStack(home) as stack:
        yield Outcome(
            report=run(stack, console),
            instructions=f"Airflow's UI           {stack.airflow.url}"
            f"   user {USER}, password {stack.airflow.password}\n"
            f"The cluster's files    {stack.firecrest.variables['FIRECREST_WORKDIR']}\n\n"
            "Airflow and the embedded FirecREST stay up until you press Ctrl-C.",
        )


def run(stack: AirflowStack, console: Console) -> dict[str, object]:
    """Run both DAGs and print their results; return them with the measured times."""
    structures = stack.results / "structures"
    copy_structure(structures)
    console.print(f"Airflow is healthy after {stack.seconds['airflow_healthy']:.0f} s: {stack.airflow.url}")
    healthy = time.monotonic()
    stack.wait_for_dags(ENERGY.dag_id, TRAINING.dag_id)
    for each in (ENERGY, TRAINING):
        stack.api.trigger(each.dag_id, each.run_id)
    wait_for_runs(stack.api, [ENERGY, TRAINING], console)
    runs = time.monotonic() - healthy

    energy = stack.api.xcom(ENERGY.dag_id, ENERGY.run_id, "log_energy")
    accuracy = stack.api.xcom(TRAINING.dag_id, TRAINING.run_id, "check_accuracy")
    model = stack.results / "models" / TRAINING.run_id
    console.print(
        f"""
Both runs were successful, {runs:.0f} s after Airflow was healthy.

Energy of silicon.cif  {energy:.4f} eV   {structures / "energies.csv"}
Accuracy on digits     {accuracy:.4f}        {model / "model.joblib"}
                                     {model / "learning_curve.png"}
""",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    return {
        "energy_eV": energy,
        "accuracy": accuracy,
        "results": str(stack.results),
        "seconds": {name: round(value, 1) for name, value in (stack.seconds | {"runs": runs}).items()},
    }


if __name__ == "__main__":
    sys.exit(main())
