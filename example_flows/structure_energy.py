"""The energy of a structure: a pipeline of materials science.

The structure and its potential are uploaded, a job computes the energy, its output is downloaded, and the energy
becomes a row of a table, which Prefect knows as an asset made from that output.

    upload_files ─▶ submit_job ─▶ wait_for_job ─▶ download_files ─▶ add_to_table

ASE computes it with Tersoff's potential for silicon; the interpreter that `python` names must have `ase`.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from datetime import datetime
from pathlib import Path

from prefect import flow, runtime
from prefect.assets import add_asset_metadata, materialize

from firecrest_core.transfer import Transferred
from prefect_firecrest import (
    FirecRESTCredentials,
    FirecRESTJob,
    download_files,
    local_asset,
    submit_job,
    upload_files,
    wait_for_job,
)

DATA = Path(__file__).parent.parent / "example_dags" / "data"
FOLDER = Path(os.environ.get("EXAMPLES_FOLDER", Path.home() / "firecrest-examples"), "structures")
TABLE = FOLDER / "energies.csv"

ENERGY = re.compile(r"^total energy *= *(\S+) eV$", re.MULTILINE)

JOB = """\
#!/bin/bash
#SBATCH --job-name=energy
#SBATCH --nodes=1
#SBATCH --time=00:10:00
set -e

"{python}" > energy.out <<'PYTHON'
from ase.calculators.tersoff import Tersoff
from ase.io import read

atoms = read("{structure}")
atoms.calc = Tersoff.from_lammps("{potential}")
print("structure:   ", atoms.get_chemical_formula())
print("total energy =", atoms.get_potential_energy(), "eV")
PYTHON
tail -n 5 energy.out
"""


@materialize(local_asset(TABLE))
def add_to_table(outputs: list[Transferred], structure: str, run_id: str) -> float:
    """Append the energy to the table `energies.csv`, one row a run, and return it in eV."""
    output = Path(outputs[0].local)
    found = ENERGY.search(output.read_text())
    if not found:
        raise ValueError(f"no final energy in {output}: the computation did not converge")
    energy = float(found[1])

    columns = ["run_id", "structure", "energy_eV", "computed_at"]
    rows = []
    if TABLE.exists():
        with TABLE.open(newline="") as file:
            # A task that runs again replaces its row.
            rows = [row for row in csv.DictReader(file) if row["run_id"] != run_id]
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    rows.append(dict(zip(columns, [run_id, structure, energy, now], strict=True)))
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    checksum = hashlib.sha256(TABLE.read_bytes()).hexdigest()
    add_asset_metadata(local_asset(TABLE), {"rows": len(rows), "sha256": checksum})
    return energy


@flow(log_prints=True)
def structure_energy(
    structure: str = str(DATA / "silicon.cif"),
    potential: str = str(DATA / "Si.tersoff"),
    working_dir: str = os.environ.get("FIRECREST_WORKDIR", "/scratch"),
    partition: str | None = None,
    account: str | None = None,
    python: str = os.environ.get("EXAMPLES_PYTHON", "python3"),
    credentials: str | None = None,
) -> float:
    """Compute the energy of a structure, in eV.

    Args:
        structure: File on our side.
        potential: Its potential, a file on our side.
        working_dir: Directory on the cluster in which each run makes its own.
        partition: Partition; empty for the default one.
        account: Account or project; empty for the default one.
        python: Python on the cluster that has ASE.
        credentials: Name of a saved block of credentials; if empty, the FIRECREST_* variables of the environment count.
    """
    run_id = runtime.flow_run.id
    firecrest = FirecRESTCredentials.load(credentials) if credentials else FirecRESTCredentials.from_environment()
    job = FirecRESTJob(
        credentials=firecrest,
        script=JOB.format(structure=Path(structure).name, potential=Path(potential).name, python=python),
        working_dir=f"{working_dir}/structure_energy/{run_id}",
        partition=partition,
        account=account,
        poll_interval=2,
    )

    upload_files(firecrest, [structure, potential], job.working_dir)
    wait_for_job(submit_job(job))
    outputs = download_files(firecrest, f"{job.working_dir}/energy.out", FOLDER / "outputs" / run_id)
    energy = add_to_table(outputs, Path(structure).name, run_id)
    print(f"{Path(structure).name}: {energy:.6f} eV, see {TABLE}")
    return energy


if __name__ == "__main__":
    structure_energy()
