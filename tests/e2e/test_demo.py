"""The demo as a newcomer runs it: what it says, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo.stack import ROOT

DEMO = ("-m", "demo")


def test_it_shows_its_results_and_ends(demo: Callable[..., Any]) -> None:
    process = demo(*DEMO)
    output, messages = process.communicate()
    assert process.returncode == 0, messages
    report = json.loads(output)
    assert report["energy_eV"] / 8 == pytest.approx(-4.63, abs=0.005)
    assert report["accuracy"] > 0.95
    assert set(report["seconds"]) == {"firecrest_ready", "airflow_healthy", "runs"}
    results = Path(report["results"])
    assert (results / "structures" / "energies.csv").exists()
    assert (results / "models" / "demo" / "learning_curve.png").exists()
    assert "energies.csv" in messages


def test_it_stays_up_until_ctrl_c(demo: Callable[..., Any]) -> None:
    process = demo(*DEMO, keep="1")
    process.read_until("Airflow's UI", "user admin, password")
    process.read_until("until you press Ctrl-C")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("moment", "number", "exit_code"),
    [
        # A job runs and its task is deferred; SIGTERM is what `kill` and a closing CI send.
        (("train_model", " train ", "deferred"), signal.SIGINT, 130),
        (("Airflow is healthy",), signal.SIGTERM, 143),
    ],
)
def test_interrupted_in_the_middle_it_stops_everything(
    demo: Callable[..., Any], moment: tuple[str, ...], number: signal.Signals, exit_code: int
) -> None:
    process = demo(*DEMO)
    process.read_until(*moment)
    process.send_signal(number)
    process.read_until("Stopping")
    process.send_signal(signal.SIGINT)  # an impatient second Ctrl-C
    process.communicate()
    assert process.returncode == exit_code


def test_a_failed_run_is_told_with_its_log(demo: Callable[..., Any], tmp_path: Path) -> None:
    # The demo with a structure that is none.
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import demo.__main__ as demo\n"
        "whole = demo.copy_structure\n"
        "def copy_structure(folder):\n"
        "    whole(folder)\n"
        "    (folder / 'silicon.cif').write_text('this is no structure')\n"
        "demo.copy_structure = copy_structure\n"
        "sys.exit(demo.main())\n"
    )
    process = demo(str(broken))
    output, messages = process.communicate()
    assert process.returncode == 1, messages
    assert output == ""
    assert "Task compute of structure_energy failed" in messages
    assert "FAILED" in messages
