"""The example flows with a real Prefect server, served and run as scripts."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.environment import clean_environment
from harness.errors import RunFailed
from harness.examples import EXAMPLE_DAGS, EXAMPLE_FLOWS, ROOT
from harness.prefect.runs import wait_for_flow_runs
from harness.prefect.stack import PrefectStack

PNG = b"\x89PNG\r\n\x1a\n"
ATOMS = 8  # The literature's cohesive energy of silicon with this potential is 4.63 eV an atom


def run(stack: PrefectStack, flow: str, **parameters: Any) -> str:
    run_id = stack.start(flow, **parameters)
    wait_for_flow_runs(stack.api, {run_id: flow}, Console())
    return run_id


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_energy_becomes_a_row(stack: PrefectStack, finished_runs: dict[str, str]) -> None:
    [row] = [
        row
        for row in rows(stack.results / "structures" / "energies.csv")
        if row["run_id"] == finished_runs["structure_energy"]
    ]
    assert row["structure"] == "silicon.cif"
    assert float(row["energy_eV"]) / ATOMS == pytest.approx(-4.63, abs=0.005)
    assert f"silicon.cif: {float(row['energy_eV']):.6f} eV" in stack.api.log(finished_runs["structure_energy"])


def test_the_table_is_an_asset_made_from_the_downloaded_output(
    stack: PrefectStack, finished_runs: dict[str, str]
) -> None:
    flow_run = f"prefect.flow-run.{finished_runs['structure_energy']}"
    query = {"filter": {"any_resource": {"id": [flow_run]}, "event": {"prefix": ["prefect.asset.materialization"]}}}
    made = {
        event["resource"]["prefect.resource.id"]: event
        for event in stack.api.request("POST", "/events/filter", query)["events"]
    }
    folder = stack.results / "structures"
    output = f"file://{folder}/outputs/{finished_runs['structure_energy']}/energy.out"
    table = made[f"file://{folder}/energies.csv"]
    assert len(made[output]["payload"]["sha256"]) == 64
    assert len(table["payload"]["sha256"]) == 64
    assert output in {related["prefect.resource.id"] for related in table["related"]}


def test_model_metrics_and_plot_are_downloaded(stack: PrefectStack, finished_runs: dict[str, str]) -> None:
    results = stack.results / "models" / finished_runs["train_model"]
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.95
    assert (results / "learning_curve.png").read_bytes().startswith(PNG)
    assert (results / "model.joblib").exists()
    assert "epoch  40  loss" in stack.api.log(finished_runs["train_model"])
    shown = {one["key"]: one["data"] for one in stack.api.artifacts(finished_runs["train_model"])}
    [row] = json.loads(shown["firecrest-jobs"])
    assert row["Metrics"].endswith("(step 40)")
    curves = shown["firecrest-train-digits-metrics"]
    assert f"| test\\_accuracy | {metrics['accuracy']:.6g} |" in curves
    assert "![curves](data:image/svg+xml;base64," in curves


def test_a_model_that_is_not_good_enough_fails_the_run(stack: PrefectStack) -> None:
    with pytest.raises(RunFailed, match="under the 99.0% that `min_accuracy` asks for"):
        run(stack, "train_model", epochs=1, min_accuracy=0.99)


def test_each_point_becomes_a_job_and_a_row(stack: PrefectStack, finished_runs: dict[str, str]) -> None:
    results = stack.results / "sweeps" / finished_runs["parameter_sweep"]
    points = {(float(row["c"]), float(row["gamma"])) for row in rows(results / "sweep.csv")}
    assert points == {(c, gamma) for c in (1, 10) for gamma in (0.0003, 0.001, 0.003)}
    assert (results / "sweep.png").read_bytes().startswith(PNG)
    [table] = [one for one in stack.api.artifacts(finished_runs["parameter_sweep"]) if one["key"] == "firecrest-jobs"]
    assert [row["State"] for row in json.loads(table["data"])] == ["COMPLETED"] * 6


def test_all_points_are_elements_of_one_job(stack: PrefectStack, finished_runs: dict[str, str]) -> None:
    log = stack.api.log(finished_runs["array_sweep"])
    assert "best: accuracy 0.9" in log
    results = stack.results / "array_sweeps" / finished_runs["array_sweep"] / "0"
    assert {file.name for file in results.iterdir()} == {f"result-{index}.json" for index in range(6)}


def test_a_function_runs_as_a_job_and_what_it_prints_is_in_the_log(
    stack: PrefectStack, finished_runs: dict[str, str]
) -> None:
    log = stack.api.log(finished_runs["python_function"])
    assert "π is about 3.1" in log
    assert "of 200000 points are in the circle" in log


def test_of_two_jobs_in_two_queues_one_runs(stack: PrefectStack, finished_runs: dict[str, str]) -> None:
    log = stack.api.log(finished_runs["race_the_queues"])
    [began] = (stack.results / "races" / finished_runs["race_the_queues"] / "began.txt").read_text().splitlines()
    assert began.endswith((" runs in normal", " runs in debug"))
    assert began in log


def test_a_training_that_its_time_limit_stops_is_one_run(stack: PrefectStack, finished_runs: dict[str, str]) -> None:
    run_id = finished_runs["train_with_checkpoints"]
    metrics = json.loads((stack.results / "trainings" / run_id / "metrics.json").read_text())
    began = metrics["jobs_began_at"]
    assert sorted(set(began)) == began
    assert [point["step"] for point in metrics["learning_curve"]] == list(range(1, 16))
    _, _, told = stack.api.log(run_id).partition(f"accuracy {metrics['accuracy']:.4f} after the jobs ")
    assert len(told.partition(", see ")[0].split(", ")) >= max(2, len(began))


def test_an_unknown_partition_fails_the_run_with_the_schedulers_message(stack: PrefectStack) -> None:
    with pytest.raises(RunFailed, match="invalid partition specified: moon"):
        run(stack, "structure_energy", partition="moon")


@pytest.fixture
def run_script(stack: PrefectStack, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Python program with the variables of the embedded FirecREST and of the Prefect server."""

    def run_script(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            env=clean_environment()
            | dict(stack.server.variables)
            | dict(stack.firecrest.variables)
            | {"EXAMPLES_FOLDER": str(tmp_path), "EXAMPLES_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run_script


def test_an_example_runs_as_a_script(
    run_script: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run_script(str(EXAMPLE_FLOWS / "structure_energy.py"))
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "structures" / "energies.csv")) == 1


def test_a_saved_block_replaces_the_variables(
    run_script: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run_script(
        "-c",
        "import os, sys\n"
        f"sys.path.insert(0, {str(EXAMPLE_FLOWS)!r})\n"
        "from prefect_firecrest import FirecRESTCredentials\n"
        "from structure_energy import structure_energy\n"
        "FirecRESTCredentials.from_environment().save('mine')\n"
        "del os.environ['FIRECREST_URL']\n"
        "structure_energy(credentials='mine')\n",
    )
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "structures" / "energies.csv")) == 1


def test_both_engines_have_the_same_examples() -> None:
    assert {file.name for file in EXAMPLE_FLOWS.glob("*.py")} - {"serve.py"} == {
        file.name for file in EXAMPLE_DAGS.glob("*.py")
    }
