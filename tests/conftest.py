"""What tests of several rooms share: a real Slurm, and a demo as a newcomer runs it, which leaves nothing behind."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from demo.slurm import Slurm

ROOT = Path(__file__).parent.parent
MARK = "DEMO_TEST"


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm with one node; where its packages are missing the test is skipped, in CI it fails."""
    # Not every environment has what it stands on.
    from demo.slurm import Slurm, missing_packages

    if packages := missing_packages():
        reason = f"a real Slurm needs the packages {' '.join(packages)}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; in CI they have to be there")
        pytest.skip(reason)
    with Slurm(tmp_path_factory.mktemp("slurm") / "slurm", cpus=32) as slurm:
        yield slurm


class Demo(subprocess.Popen[str]):
    """A demo that runs."""

    def read_until(self, *words: str) -> None:
        """Read what it says until a line holds these words."""
        assert self.stderr is not None
        said = []
        for line in self.stderr:
            said.append(line)
            if all(word in line for word in words):
                return
        pytest.fail(f"the demo ended before it said {words}:\n{''.join(said)}")


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start a demo; at the end of the test it has ended and no process of it is left."""
    home, mark = tmp_path / "home", secrets.token_hex()
    started: list[Demo] = []

    def start(*command: str, keep: str = "0") -> Demo:
        process = Demo(
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
