"""A demo as a newcomer runs it: what it says, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from demo.stack import ROOT


class DemoSuite:
    """What is the same for both engines."""

    #: The module that is run, as `python -m` takes it.
    module: ClassVar[str]
    #: What the report says that everything took its time for.
    seconds: ClassVar[set[str]]
    #: Words of the line that says where the UI is.
    ui: ClassVar[tuple[str, ...]]
    #: Words that are said when the engine is up, and when a job runs.
    up: ClassVar[tuple[str, ...]]
    job_runs: ClassVar[tuple[str, ...]]
    #: A program that changes the demo, called `demo` there, so that a run fails, and what is then said.
    broken: ClassVar[str]
    failure: ClassVar[tuple[str, ...]]

    def check(self, report: dict[str, Any], messages: str) -> None:
        """See that the results are there that this demo alone has."""

    def test_it_shows_its_results_and_ends(self, demo: Callable[..., Any]) -> None:
        process = demo("-m", self.module)
        output, messages = process.communicate()
        assert process.returncode == 0, messages
        report = json.loads(output)
        assert report["energy_eV"] / 8 == pytest.approx(-4.63, abs=0.005)
        assert report["accuracy"] > 0.95
        assert set(report["seconds"]) == self.seconds
        assert Path(report["results"], "structures", "energies.csv").exists()
        self.check(report, messages)

    def test_it_stays_up_until_ctrl_c(self, demo: Callable[..., Any]) -> None:
        process = demo("-m", self.module, keep="1")
        process.read_until(*self.ui)
        process.read_until("until you press Ctrl-C")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 0

    # SIGTERM is what `kill` and a closing CI send.
    @pytest.mark.parametrize(
        ("moment", "number", "exit_code"), [("job_runs", signal.SIGINT, 130), ("up", signal.SIGTERM, 143)]
    )
    def test_interrupted_in_the_middle_it_stops_everything(
        self, demo: Callable[..., Any], moment: str, number: signal.Signals, exit_code: int
    ) -> None:
        process = demo("-m", self.module)
        process.read_until(*getattr(self, moment))
        process.send_signal(number)
        process.read_until("Stopping")
        process.send_signal(signal.SIGINT)  # an impatient second Ctrl-C
        process.communicate()
        assert process.returncode == exit_code

    def test_a_failed_run_is_told_with_its_log(self, demo: Callable[..., Any], tmp_path: Path) -> None:
        program = tmp_path / "broken.py"
        program.write_text(
            f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport {self.module}.__main__ as demo\n"
            f"{self.broken}\nsys.exit(demo.main())\n"
        )
        process = demo(str(program))
        output, messages = process.communicate()
        assert process.returncode == 1, messages
        assert output == ""
        for words in self.failure:
            assert words in messages
