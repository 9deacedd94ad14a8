"""Run the example DAGs in a real Airflow on an embedded FirecREST, and show what they found.

In a terminal everything stays up afterwards, until Ctrl-C; without one, or with KEEP=0 in the environment,
everything is stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console

from demo.deployment import USER
from demo.runs import Run, RunFailed, follow
from demo.services import ServiceFailed, end_children
from demo.stack import ROOT, Stack, copy_structure

ENERGY = Run("structure_energy", "demo")
TRAINING = Run("train_model", "demo")
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the demo; the exit code is 0 when both runs were successful."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / ".demo", help="where everything is kept (made anew)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON on standard output")
    arguments = parser.parse_args()
    home: Path = arguments.home.absolute()
    keep = os.environ.get("KEEP", "0" if arguments.json or not sys.stdout.isatty() else "1") != "0"
    console = Console(stderr=arguments.json)

    for number in ENDS:
        signal.signal(number, stop)
    up = False
    try:
        with alone(home), Stack(home / "latest") as stack:
            report = run(stack, console)
            if arguments.json:
                print(json.dumps(report), flush=True)
            if keep:
                up = True
                console.print(
                    f"Airflow's UI           {stack.airflow.url}   user {USER}, password {stack.airflow.password}\n"
                    f"The cluster's files    {stack.cluster.variables['FIRECREST_WORKDIR']}\n\n"
                    "Airflow and the embedded FirecREST stay up until you press Ctrl-C.",
                    soft_wrap=True,
                    highlight=False,
                    markup=False,
                )
                signal.pause()
    except Stopped as wish:
        console.print("Everything has stopped.")
        return 0 if up else 128 + wish.signal
    except (RunFailed, ServiceFailed, AlreadyRunning) as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 1
    finally:
        end_children()  # one that was just being started when a signal came
    return 0


class Stopped(BaseException):
    """Somebody asks us to end."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def stop(number: int, frame: FrameType | None) -> None:
    """End everything; a second Ctrl-C does not interrupt that."""
    for each in ENDS:
        signal.signal(each, signal.SIG_IGN)
    print("Stopping ...", file=sys.stderr, flush=True)
    raise Stopped(number)


def run(stack: Stack, console: Console) -> dict[str, object]:
    """Run both DAGs, show their results, and return them with the times measured."""
    structures = stack.results / "structures"
    copy_structure(structures)
    console.print(f"Airflow is healthy after {stack.seconds['airflow_healthy']:.0f} s: {stack.airflow.url}")
    healthy = time.monotonic()
    stack.wait_for_dags(ENERGY.dag_id, TRAINING.dag_id)
    for each in (ENERGY, TRAINING):
        stack.api.trigger(each.dag_id, each.run_id)
    follow(stack.api, [ENERGY, TRAINING], console)
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


class AlreadyRunning(Exception):
    """Another demo uses the same directory."""


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """Make the directory anew, unless another demo runs in it."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another demo runs in {home}: stop it first, or choose another --home") from None
        shutil.rmtree(home / "latest", ignore_errors=True)
        yield


if __name__ == "__main__":
    sys.exit(main())
