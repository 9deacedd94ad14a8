"""The demo as a newcomer runs it: what it says, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from demo.stack import ROOT

MARK = "DEMO_TEST"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def demo(home: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the demo; at the end of the test it has ended and no process of it is left."""
    mark = secrets.token_hex()
    started: list[subprocess.Popen[str]] = []

    def start(*command: str, keep: str = "0") -> subprocess.Popen[str]:
        command = command or ("-m", "demo")
        process = subprocess.Popen(
            [sys.executable, *command, "--home", str(home), "--json"],
            cwd=ROOT,
            env=os.environ | {MARK: mark, "KEEP": keep, "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    [process] = started
    ended = process.poll() is not None
    if not ended:
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert ended
    assert left_behind(home, mark) == []


def left_behind(home: Path, mark: str) -> list[str]:
    """Processes that were started by the demo, which all inherit the mark, or that work in its directory."""
    left = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark or str(home) in " ".join([process.cwd(), *process.cmdline()]):
                left.append(f"{process.pid} {process.status()} {process.cmdline()}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return left


def read_until(process: subprocess.Popen[str], *words: str) -> None:
    """Read what the demo says until a line holds these words."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if all(word in line for word in words):
            return
    pytest.fail(f"the demo ended before it said {words}:\n{''.join(said)}")


def test_it_shows_its_results_and_ends(demo: Callable[..., subprocess.Popen[str]]) -> None:
    process = demo()
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


def test_it_stays_up_until_ctrl_c(demo: Callable[..., subprocess.Popen[str]]) -> None:
    process = demo(keep="1")
    read_until(process, "Airflow's UI", "user admin, password")
    read_until(process, "until you press Ctrl-C")
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
    demo: Callable[..., subprocess.Popen[str]], moment: tuple[str, ...], number: signal.Signals, exit_code: int
) -> None:
    process = demo()
    read_until(process, *moment)
    process.send_signal(number)
    read_until(process, "Stopping")
    process.send_signal(signal.SIGINT)  # an impatient second Ctrl-C
    process.communicate()
    assert process.returncode == exit_code


def test_a_failed_run_is_told_with_its_log(demo: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
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
