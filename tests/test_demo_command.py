"""A demo as a command, without an engine: what it prints, how it ends, and that it leaves nothing."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.examples import ROOT

# It starts a service that nobody stops.
PROGRAM = """
import contextlib
import subprocess
import sys
import time

sys.path.insert(0, {root!r})
from demo.command import Outcome, run_command
from harness.errors import RunFailed


@contextlib.contextmanager
def start(home, console):
    home.mkdir()
    subprocess.Popen(["sleep", "600"])
    console.print("The engine is up")
    try:
        {run}
        yield Outcome(report={{"energy_eV": -4.63}}, instructions="It stays up until you press Ctrl-C.")
    finally:
        {stop}


sys.exit(run_command(start, "demo", "A demo.", None))
"""
WAIT_UNTIL = "while not (home.parent / {name!r}).exists(): time.sleep(0.05)"


@pytest.fixture
def start_program(start_demo: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Start a demo that does this while it runs, and this while it stops."""

    def start_program(run: str = "pass", stop: str = "pass", keep: str = "0") -> Any:
        program = tmp_path / "program.py"
        program.write_text(PROGRAM.format(root=str(ROOT), run=run, stop=stop))
        return start_demo(str(program), keep=keep)

    return start_program


def test_it_prints_its_report_and_ends(start_program) -> None:
    process = start_program()
    output, messages = process.communicate()
    assert process.returncode == 0, messages
    assert json.loads(output) == {"energy_eV": -4.63}


def test_it_stays_up_until_ctrl_c(start_program) -> None:
    process = start_program(keep="1")
    process.read_until("until you press Ctrl-C")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 0


# `kill` and a cancelled CI job send SIGTERM, a terminal that is closed SIGHUP.
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_everything(start_program, tmp_path, number, exit_code) -> None:
    """A second Ctrl-C does not interrupt the stopping."""
    process = start_program(run="time.sleep(600)", stop=WAIT_UNTIL.format(name="go"))
    process.read_until("The engine is up")
    process.send_signal(number)
    process.read_until("Stopping")
    process.send_signal(signal.SIGINT)
    (tmp_path / "home" / "go").touch()
    process.communicate()
    assert process.returncode == exit_code


def test_a_failed_run_is_reported(start_program) -> None:
    process = start_program(run="raise RunFailed('Task compute failed\\nits log')")
    output, messages = process.communicate()
    assert process.returncode == 1
    assert output == ""
    assert "Task compute failed\nits log" in messages


def test_another_demo_in_the_same_directory_is_refused(start_program, tmp_path) -> None:
    from demo.command import exclusive_directory

    with exclusive_directory(tmp_path / "home"):
        process = start_program()
        _, messages = process.communicate()
        assert process.returncode == 1
        assert "another demo runs in" in messages
