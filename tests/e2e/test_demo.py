"""`make demo`: the example DAGs in a real Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.demo_suite import DemoSuite


class TestDemo(DemoSuite):
    module = "demo"
    seconds = {"firecrest_ready", "airflow_healthy", "runs"}
    ui = ("Airflow's UI", "user admin, password")
    up = ("Airflow is healthy",)
    job_runs = ("train_model", " train ", "deferred")
    # The run fails because the file is not a structure.
    broken = """
whole = demo.copy_structure
def copy_structure(folder):
    whole(folder)
    (folder / "silicon.cif").write_text("this is no structure")
demo.copy_structure = copy_structure
"""
    failure = ("Task compute of structure_energy failed", "FAILED")

    def check(self, report: dict[str, Any], messages: str) -> None:
        assert Path(report["results"], "models", "demo", "learning_curve.png").exists()
        assert "energies.csv" in messages
