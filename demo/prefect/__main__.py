"""Run the example flows with a real Prefect server on an embedded FirecREST, and print their results.

In a terminal, everything stays up after the runs until Ctrl-C. Without a terminal, or with KEEP=0 in the environment,
everything is stopped.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from demo.command import Outcome, run_command
from harness.examples import ROOT
from harness.prefect.runs import wait_for_flow_runs
from harness.prefect.stack import PrefectStack

#: What the demo runs itself. All other examples are served, too: more at once are too many for SQLite and two cores.
RUN = ("structure_energy", "train_model", "parameter_sweep")


def main() -> int:
    """Run the demo.

    :returns: the exit code, 0 if all runs succeeded
    """
    return run_command(start, "python -m demo.prefect", __doc__, ROOT / ".demo-prefect")


@contextlib.contextmanager
def start(home: Path, console: Console) -> Iterator[Outcome]:
    """Start Prefect and FirecREST, run the flows, and stop everything at the exit."""
    with PrefectStack(home) as stack:
        yield Outcome(
            report=run(stack, console),
            instructions=f"Prefect's UI           {stack.server.url}\n"
            f"The cluster's files    {stack.firecrest.variables['FIRECREST_WORKDIR']}\n\n"
            "Prefect and the embedded FirecREST stay up until you press Ctrl-C.",
        )


def run(stack: PrefectStack, console: Console) -> dict[str, object]:
    """Run the flows and print their results; return them with the measured times."""
    console.print(f"Prefect serves the flows after {stack.seconds['flows_served']:.0f} s: {stack.server.url}")
    served = time.monotonic()
    started = {stack.start(flow): flow for flow in RUN}
    wait_for_flow_runs(stack.api, started, console)
    runs = time.monotonic() - served

    run_ids = {flow: run_id for run_id, flow in started.items()}
    table = stack.results / "structures" / "energies.csv"
    energy = float(rows(table)[-1]["energy_eV"])
    model = stack.results / "models" / run_ids["train_model"]
    accuracy = json.loads((model / "metrics.json").read_text())["accuracy"]
    sweep = stack.results / "sweeps" / run_ids["parameter_sweep"]
    best = max(float(row["accuracy"]) for row in rows(sweep / "sweep.csv"))
    console.print(
        f"""
All runs were successful, {runs:.0f} s after their start.

Energy of silicon.cif  {energy:.4f} eV   {table}
Accuracy on digits     {accuracy:.4f}        {model / "model.joblib"}
                                     {model / "learning_curve.png"}
Best of the sweep      {best:.4f}        {sweep / "sweep.png"}

""",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    return {
        "energy_eV": energy,
        "accuracy": accuracy,
        "best_of_sweep": best,
        "flow_runs": run_ids,
        "results": str(stack.results),
        "seconds": {name: round(value, 1) for name, value in (stack.seconds | {"runs": runs}).items()},
    }


def rows(table: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file."""
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(main())
