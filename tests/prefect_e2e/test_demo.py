"""`make demo-prefect`: the example flows with a real Prefect server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.demo_suite import DemoSuite


class TestDemo(DemoSuite):
    module = "demo.prefect"
    seconds = {"firecrest_ready", "prefect_ready", "flows_served", "runs"}
    ui = ("Prefect's UI", "http://127.0.0.1:")
    job_runs = ("train_model", "wait for Job", "Running")

    def check(self, report: dict[str, Any], messages: str) -> None:
        assert report["best_of_sweep"] > 0.95
        assert Path(report["results"], "models", report["flow_runs"]["train_model"], "learning_curve.png").exists()
        assert "sweep.png" in messages
