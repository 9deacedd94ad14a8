"""What tests of several rooms share: an embedded FirecREST, a real Slurm, and a demo that leaves nothing behind."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from firecrest_core.connection import Connection
from firecrest_local import LocalFirecREST, Plan, Settings

if TYPE_CHECKING:
    from demo.slurm import Slurm

pytest.register_assert_rewrite("tests.demo_suite")

ROOT = Path(__file__).parent.parent
MARK = "DEMO_TEST"


@pytest.fixture(scope="session")
def need() -> Callable[[bool, str], None]:
    """Skip the test where something that it needs is missing; in CI that is a failure."""

    def need(there: bool, reason: str) -> None:
        if not there:
            if os.environ.get("CI"):
                pytest.fail(f"{reason}; in CI it has to be there")
            pytest.skip(reason)

    return need


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory, need: Callable[[bool, str], None]) -> Iterator[Slurm]:
    """A Slurm with one node."""
    # Not every environment has what it stands on.
    from demo.slurm import Slurm, missing_packages

    packages = missing_packages()
    need(not packages, f"a real Slurm: apt-get install {' '.join(packages)}")
    with Slurm(tmp_path_factory.mktemp("slurm") / "slurm", cpus=32) as slurm:
        yield slurm


@pytest.fixture(scope="session")
def f7t(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    """An embedded FirecREST that takes 64 KiB directly, so that transfer jobs are cheap to have."""
    settings = Settings(
        root=tmp_path_factory.mktemp("cluster"),
        cores=32,  # no test waits for another one's jobs
        accounting_lag=0.2,
        max_ops_file_size=64 * 1024,
        kill_wait=0.5,
        faults=Plan(),
    )
    with LocalFirecREST(settings) as server:
        yield server


@pytest.fixture
def faults(f7t: LocalFirecREST) -> Iterator[Any]:
    """What goes wrong in the server, until the test ends."""
    yield f7t.faults
    f7t.faults.clear()


@pytest.fixture
def connection(f7t: LocalFirecREST) -> Connection:
    return Connection.from_environment(f7t.environ)


@pytest.fixture
def workdir(f7t: LocalFirecREST, request: pytest.FixtureRequest) -> Path:
    """A directory of the test's own on the cluster."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.nodeid.rpartition("/")[2])
    path = Path(f7t.home, name)
    path.mkdir()
    return path


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
