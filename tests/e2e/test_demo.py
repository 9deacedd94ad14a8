"""`make demo`: the example DAGs in a real Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.demo_suite import DemoSuite


class TestDemo(DemoSuite):
    module = "demo"
    seconds = {"firecrest_ready", "airflow_healthy", "runs"}
    ui = ("Airflow's UI", "user admin, password")
    job_runs = ("train_model", " train ", "deferred")

    def check(self, report: dict[str, Any], messages: str) -> None:
        assert Path(report["results"], "models", "demo", "learning_curve.png").exists()
        assert "energies.csv" in messages
