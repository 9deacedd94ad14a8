"""The energy of every structure that arrives: a pipeline of materials science.

A sensor waits for a new structure in a folder. The structure and its potential are uploaded at the same time. A job
computes the energy, and its output is downloaded. The energy becomes a row of a table. The structure is removed from
the folder, so that the next run waits for the next one.

    structure_arrives ─▶ make_directory ─┬▶ upload_structure ─┬▶ compute ─▶ download_output ─▶ log_energy ─▶ remove
                                         └▶ upload_potential ─┘

Parameters choose what computes the energy:

* `engine = "ase"`: ASE with Tersoff's potential for silicon; `data/` holds a structure and the potential. The
  interpreter that `python` names must have `ase`.
* `engine = "quantum-espresso"`: `pw.x`, where the cluster has it. The structure is then an input file of `pw.x`
  and the potential the pseudopotential that it names.
"""

from __future__ import annotations

import csv
import os
import re
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.operators import (
    FirecRESTDownloadFromJobOperator,
    FirecRESTMakeDirectoryOperator,
    FirecRESTSubmitOperator,
    FirecRESTUploadOperator,
)

# How each engine writes the energy. pw.x marks that of the converged cycle with an exclamation mark.
ENERGY = {
    "ase": re.compile(r"^total energy *= *(?P<energy>\S+) (?P<unit>eV)$", re.MULTILINE),
    "quantum-espresso": re.compile(r"^! +total energy *= *(?P<energy>\S+) (?P<unit>Ry)$", re.MULTILINE),
}
RYDBERG_IN_EV = 13.605693122990

# A directory for each run on the cluster, and beside the structures on our side.
WORKING_DIR = "{{ params.working_dir }}/structure_energy/{{ run_id }}"
OUTPUT = "{{ params.folder }}/outputs/{{ run_id }}.out"

JOB = """\
#!/bin/bash
#SBATCH --job-name=energy
#SBATCH --nodes=1
#SBATCH --time=00:10:00
{% if params.partition -%}
#SBATCH --partition={{ params.partition }}
{% endif -%}
{% if params.account -%}
#SBATCH --account={{ params.account }}
{% endif %}
set -e

{% if params.engine == "quantum-espresso" -%}
pw.x -in "{{ params.structure }}" > energy.out
{% else -%}
"{{ params.python }}" > energy.out <<'PYTHON'
from ase.calculators.tersoff import Tersoff
from ase.io import read

atoms = read("{{ params.structure }}")
atoms.calc = Tersoff.from_lammps("{{ params.potential }}")
print("structure:   ", atoms.get_chemical_formula())
print("total energy =", atoms.get_potential_energy(), "eV")
PYTHON
{% endif -%}
tail -n 5 energy.out
"""

with DAG(
    dag_id="structure_energy",
    description="Compute the energy of every structure that arrives in a folder",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,  # one structure at a time: the next run waits for the next one
    tags=["example", "firecrest", "materials-science"],
    params={
        "folder": Param(
            os.environ.get("EXAMPLES_FOLDER", str(Path.home() / "firecrest-examples")) + "/structures",
            type="string",
            description="Folder on Airflow's side where structures arrive and the table of energies grows",
        ),
        "structure": Param("silicon.cif", type="string", description="Name of the structure to wait for"),
        "potential": Param("Si.tersoff", type="string", description="Name of its potential, in the same folder"),
        "engine": Param("ase", enum=["ase", "quantum-espresso"], description="What computes the energy"),
        "working_dir": Param(
            os.environ.get("FIRECREST_WORKDIR", "/scratch"),
            type="string",
            description="Directory on the cluster in which each run makes its own",
        ),
        "partition": Param(None, type=["null", "string"], description="Partition; empty for the default one"),
        "account": Param(None, type=["null", "string"], description="Account or project; empty for the default one"),
        "python": Param(
            os.environ.get("EXAMPLES_PYTHON", "python3"),
            type="string",
            description="Python on the cluster that has ASE (engine `ase` alone)",
        ),
    },
):
    # mode="reschedule": the sensor holds no worker slot between two checks.
    @task.sensor(mode="reschedule", poke_interval=10, timeout=timedelta(days=1).total_seconds())
    def structure_arrives(params: dict) -> bool:
        """Wait until the structure is there."""
        return Path(params["folder"], params["structure"]).is_file()

    make_directory = FirecRESTMakeDirectoryOperator(task_id="make_directory", path=WORKING_DIR)

    upload_structure = FirecRESTUploadOperator(
        task_id="upload_structure",
        source_path="{{ params.folder }}/{{ params.structure }}",
        target_path=WORKING_DIR + "/{{ params.structure }}",
    )

    upload_potential = FirecRESTUploadOperator(
        task_id="upload_potential",
        source_path="{{ params.folder }}/{{ params.potential }}",
        target_path=WORKING_DIR + "/{{ params.potential }}",
    )

    compute = FirecRESTSubmitOperator(task_id="compute", script=JOB, working_dir=WORKING_DIR, poll_interval=2)

    download_output = FirecRESTDownloadFromJobOperator(
        task_id="download_output",
        target_task_id="compute",
        remote_files=["energy.out"],
        local_path=OUTPUT,
    )

    @task
    def log_energy(output: str, run_id: str, params: dict) -> float:
        """Append the energy to the table `energies.csv`, one row a run, and return it in eV."""
        found = ENERGY[params["engine"]].search(Path(output).read_text())
        if not found:
            raise AirflowFailException(f"no final energy in {output}: the computation did not converge")
        energy = float(found["energy"]) * (RYDBERG_IN_EV if found["unit"] == "Ry" else 1)

        table = Path(params["folder"], "energies.csv")
        columns = ["run_id", "structure", "engine", "energy_eV", "computed_at"]
        rows = []
        if table.exists():
            with table.open(newline="") as file:
                # A task that runs again replaces its row.
                rows = [row for row in csv.DictReader(file) if row["run_id"] != run_id]
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        rows.append(dict(zip(columns, [run_id, params["structure"], params["engine"], energy, now], strict=True)))
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        print(f"{params['structure']}: {energy:.6f} eV, see {table}")
        return energy

    @task
    def remove_structure(params: dict) -> None:
        """Remove the structure from the folder, since its energy is known."""
        Path(params["folder"], params["structure"]).unlink(missing_ok=True)

    structure_arrives() >> make_directory >> [upload_structure, upload_potential] >> compute
    compute >> download_output >> log_energy(OUTPUT) >> remove_structure()
