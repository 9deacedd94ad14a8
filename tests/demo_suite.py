"""Tests of a demo with its engine, for both of them. What their command does alike is in `test_demo_command.py`."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest


class DemoSuite:
    """The tests that both demos share. Each is a whole start of the engine."""

    #: The module that `python -m` runs.
    module: ClassVar[str]
    #: The names of the times in the report.
    seconds: ClassVar[set[str]]
    #: Words of the line with the address of the UI.
    ui: ClassVar[tuple[str, ...]]
    #: Words that are printed when a job runs.
    job_runs: ClassVar[tuple[str, ...]]

    def check(self, report: dict[str, Any], messages: str) -> None:
        """Check the results that only this demo has."""

    def test_it_prints_its_results_and_stays_up_until_ctrl_c(self, start_demo: Callable[..., Any]) -> None:
        process = start_demo("-m", self.module, keep="1")
        messages = process.read_until(*self.ui)
        process.read_until("until you press Ctrl-C")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
        assert process.returncode == 0
        report = json.loads(output)
        assert report["energy_eV"] / 8 == pytest.approx(-4.63, abs=0.005)
        assert report["accuracy"] > 0.95
        assert set(report["seconds"]) == self.seconds
        assert Path(report["results"], "structures", "energies.csv").exists()
        self.check(report, messages)

    def test_a_signal_while_a_job_runs_stops_everything(self, start_demo: Callable[..., Any]) -> None:
        process = start_demo("-m", self.module)
        process.read_until(*self.job_runs)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 143
