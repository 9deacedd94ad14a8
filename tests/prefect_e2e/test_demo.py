"""The demo of the Prefect face as a newcomer runs it: what it says, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo.stack import ROOT

DEMO = ("-m", "demo.prefect")


def test_it_shows_its_results_and_ends(demo: Callable[..., Any]) -> None:
    process = demo(*DEMO)
    output, messages = process.communicate()
    assert process.returncode == 0, messages
    report = json.loads(output)
    assert report["energy_eV"] / 8 == pytest.approx(-4.63, abs=0.005)
    assert report["accuracy"] > 0.95
    assert report["best_of_sweep"] > 0.95
    assert set(report["seconds"]) == {"firecrest_ready", "prefect_ready", "flows_served", "runs"}
    results = Path(report["results"])
    assert (results / "structures" / "energies.csv").exists()
    assert (results / "models" / report["flow_runs"]["train_model"] / "learning_curve.png").exists()
    assert "sweep.png" in messages


def test_it_stays_up_until_ctrl_c(demo: Callable[..., Any]) -> None:
    process = demo(*DEMO, keep="1")
    process.read_until("Prefect's UI", "http://127.0.0.1:")
    process.read_until("until you press Ctrl-C")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("moment", "number", "exit_code"),
    [
        # A job runs; SIGTERM is what `kill` and a closing CI send.
        (("train_model", "wait for Job", "Running"), signal.SIGINT, 130),
        (("Prefect serves the flows",), signal.SIGTERM, 143),
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
    # The demo with an accuracy that no model has.
    strict = tmp_path / "strict.py"
    strict.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import demo.prefect.__main__ as demo\n"
        "from demo.prefect.stack import PrefectStack\n"
        "start = PrefectStack.start\n"
        "demo.FLOWS = ('train_model',)\n"
        "PrefectStack.start = lambda self, flow: start(self, flow, epochs=1, min_accuracy=1)\n"
        "sys.exit(demo.main())\n"
    )
    process = demo(str(strict))
    output, messages = process.communicate()
    assert process.returncode == 1, messages
    assert output == ""
    assert "train_model ended Failed" in messages
    assert "under the 100.0% that `min_accuracy` asks for" in messages
