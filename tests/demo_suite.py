"""Tests of a demo as a command, for both engines: its output, its end, and that no process is left."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.examples import ROOT


class DemoSuite:
    """The tests that both demos share."""

    #: The module that `python -m` runs.
    module: ClassVar[str]
    #: The names of the times in the report.
    seconds: ClassVar[set[str]]
    #: Words of the line with the address of the UI.
    ui: ClassVar[tuple[str, ...]]
    #: Words that are printed when the engine is up, and when a job runs.
    up: ClassVar[tuple[str, ...]]
    job_runs: ClassVar[tuple[str, ...]]
    #: Code that changes the module, called `demo` in it, so that a run fails, and words of the resulting message.
    broken: ClassVar[str]
    failure: ClassVar[tuple[str, ...]]

    def check(self, report: dict[str, Any], messages: str) -> None:
        """Check the results that only this demo has."""

    def test_it_prints_its_results_and_ends(self, start_demo: Callable[..., Any]) -> None:
        process = start_demo("-m", self.module)
        output, messages = process.communicate()
        assert process.returncode == 0, messages
        report = json.loads(output)
        assert report["energy_eV"] / 8 == pytest.approx(-4.63, abs=0.005)
        assert report["accuracy"] > 0.95
        assert set(report["seconds"]) == self.seconds
        assert Path(report["results"], "structures", "energies.csv").exists()
        self.check(report, messages)

    def test_it_stays_up_until_ctrl_c(self, start_demo: Callable[..., Any]) -> None:
        process = start_demo("-m", self.module, keep="1")
        process.read_until(*self.ui)
        process.read_until("until you press Ctrl-C")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 0

    # `kill` and a cancelled CI job send SIGTERM.
    @pytest.mark.parametrize(
        ("moment", "number", "exit_code"), [("job_runs", signal.SIGINT, 130), ("up", signal.SIGTERM, 143)]
    )
    def test_a_signal_stops_everything(
        self, start_demo: Callable[..., Any], moment: str, number: signal.Signals, exit_code: int
    ) -> None:
        process = start_demo("-m", self.module)
        process.read_until(*getattr(self, moment))
        process.send_signal(number)
        process.read_until("Stopping")
        process.send_signal(signal.SIGINT)  # a second Ctrl-C must not interrupt the stopping
        process.communicate()
        assert process.returncode == exit_code

    def test_a_failed_run_is_reported_with_its_log(self, start_demo: Callable[..., Any], tmp_path: Path) -> None:
        program = tmp_path / "broken.py"
        program.write_text(
            f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport {self.module}.__main__ as demo\n"
            f"{self.broken}\nsys.exit(demo.main())\n"
        )
        process = start_demo(str(program))
        output, messages = process.communicate()
        assert process.returncode == 1, messages
        assert output == ""
        for words in self.failure:
            assert words in messages
