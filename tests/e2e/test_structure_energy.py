"""The DAG `structure_energy`: with ASE, with Quantum ESPRESSO, while its job runs, and when the job fails."""

from __future__ import annotations

import csv
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.airflow.runs import DAGRun
from harness.airflow.stack import AirflowStack
from harness.examples import ROOT, copy_structure

INPUTS = ROOT.parent / "shared" / "inputs"
RYDBERG_IN_EV = 13.605693122990

StartRun = Callable[..., DAGRun]
WaitForSuccess = Callable[[DAGRun], None]
WaitForFailure = Callable[[DAGRun], str]


def read_table(folder: Path) -> list[dict[str, str]]:
    with (folder / "energies.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def state(stack: AirflowStack, run: DAGRun, task_id: str) -> str | None:
    tasks = stack.api.task_instances(run.dag_id, run.run_id)
    return next(task["state"] for task in tasks if task["task_id"] == task_id)


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():  # pytest's timeout ends a wait that takes too long
        time.sleep(0.2)


def test_each_structure_becomes_a_row_and_is_removed(
    stack: AirflowStack, start_run: StartRun, wait_for_success: WaitForSuccess, structures: Path
) -> None:
    for number in (1, 2):
        copy_structure(structures)
        run = start_run("structure_energy", folder=str(structures))
        wait_for_success(run)
        assert not (structures / "silicon.cif").exists()
        assert (structures / "Si.tersoff").exists()
        rows = read_table(structures)
        assert len(rows) == number
        assert rows[-1]["run_id"] == run.run_id
        # Eight atoms of silicon; the literature's cohesive energy with this potential is 4.63 eV.
        assert float(rows[-1]["energy_eV"]) / 8 == pytest.approx(-4.63, abs=0.005)
        assert stack.api.xcom(run.dag_id, run.run_id, "log_energy") == float(rows[-1]["energy_eV"])


def test_the_sensor_waits_for_a_structure(
    stack: AirflowStack, start_run: StartRun, wait_for_success: WaitForSuccess, structures: Path
) -> None:
    run = start_run("structure_energy", folder=str(structures))
    wait_for(lambda: state(stack, run, "structure_arrives") == "up_for_reschedule")
    copy_structure(structures)
    wait_for_success(run)


def test_no_worker_slot_is_held_while_the_job_runs(
    stack: AirflowStack, start_run: StartRun, wait_for_success: WaitForSuccess, structures: Path
) -> None:
    # A Python that creates a file and waits for another one before it runs, so that the job runs during the checks.
    python, runs, released = (structures / name for name in ("python", "runs", "released"))
    python.write_text(
        f"#!/bin/sh\ntouch {runs}\nwhile [ ! -e {released} ]; do sleep 0.1; done\nexec {shlex.quote(sys.executable)}\n"
    )
    python.chmod(0o755)
    copy_structure(structures)
    run = start_run("structure_energy", folder=str(structures), python=str(python))

    wait_for(lambda: runs.exists() and state(stack, run, "compute") == "deferred")
    pool = stack.api.request("GET", "/pools/default_pool")
    assert pool["running_slots"] == 0
    assert pool["occupied_slots"] == 0
    assert pool["deferred_slots"] == 1

    released.touch()
    wait_for_success(run)


def test_an_unknown_partition_fails_the_run_at_once_with_one_message(
    stack: AirflowStack, start_run: StartRun, wait_for_failure: WaitForFailure, structures: Path
) -> None:
    copy_structure(structures)
    run = start_run("structure_energy", folder=str(structures), partition="moon")
    message = wait_for_failure(run)
    assert "Task compute of structure_energy failed" in message
    errors = [line for line in message.splitlines() if " error " in line]
    assert len(errors) == 1
    assert "invalid partition specified: moon" in message
    assert "Traceback" not in message
    compute = next(t for t in stack.api.task_instances(run.dag_id, run.run_id) if t["task_id"] == "compute")
    assert compute["try_number"] == 1
    assert (structures / "silicon.cif").exists()


def test_a_failed_job_shows_its_stderr(
    stack: AirflowStack, start_run: StartRun, wait_for_failure: WaitForFailure, structures: Path
) -> None:
    copy_structure(structures)
    (structures / "silicon.cif").write_text("this is no structure\n")
    message = wait_for_failure(start_run("structure_energy", folder=str(structures)))
    assert "Task compute of structure_energy failed" in message
    assert "FAILED" in message
    # The last lines of the job's stderr, which hold Python's traceback.
    assert "ase.io" in message or "ase/io" in message
    assert (structures / "silicon.cif").exists()


def test_quantum_espresso(
    stack: AirflowStack, start_run: StartRun, wait_for_success: WaitForSuccess, structures: Path, require: Callable
) -> None:
    require(INPUTS.is_dir(), f"the inputs of Quantum ESPRESSO are not in {INPUTS}")
    require(shutil.which("pw.x") is not None, "pw.x (Quantum ESPRESSO) is not installed")
    for name in ("si.scf.in", "Si.pz-vbc.UPF"):
        shutil.copyfile(INPUTS / name, structures / name)
    run = start_run(
        "structure_energy",
        folder=str(structures),
        structure="si.scf.in",
        potential="Si.pz-vbc.UPF",
        engine="quantum-espresso",
    )
    wait_for_success(run)
    [row] = read_table(structures)
    assert float(row["energy_eV"]) / RYDBERG_IN_EV == pytest.approx(-15.8445, abs=0.0005)
    assert not (structures / "si.scf.in").exists()
