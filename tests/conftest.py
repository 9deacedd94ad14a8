"""Fixtures of several test directories: an embedded FirecREST, a real Slurm, and demos as commands."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from firecrest_core import hidden_values
from firecrest_core.api.http import HTTPSession
from firecrest_core.connection import Connection
from firecrest_local import LocalFirecREST, Plan, Settings
from harness.slurm import Slurm, missing_packages

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.register_assert_rewrite("tests.demo_suite")

ROOT = Path(__file__).parent.parent
#: A variable that all processes of a demo inherit.
MARKER = "DEMO_TEST"


@pytest.fixture(autouse=True)
def _first_contact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a process of its own, to which no FirecREST has answered yet, and which knows no secret of a job."""
    monkeypatch.setattr("firecrest_core.api.http._reached", set())
    monkeypatch.setattr("firecrest_core.paths._users", {})
    hidden_values._hidden.clear()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each kind of request was sent."""
    requests: Counter[str] = Counter()
    send = HTTPSession._send_once

    async def count(session: HTTPSession, method: str, url: str, options: dict[str, Any]) -> Any:
        requests[f"{method} {url.partition('?')[0].rpartition('/')[2]}"] += 1
        return await send(session, method, url, options)

    monkeypatch.setattr(HTTPSession, "_send_once", count)
    return requests


@pytest.fixture(scope="session")
def require() -> Callable[[bool, str], None]:
    """Skip the test if a requirement is not met; with CI set, fail it."""

    def require(met: bool, reason: str) -> None:
        if not met:
            if os.environ.get("CI"):
                pytest.fail(f"{reason}; in CI this must not be missing")
            pytest.skip(reason)

    return require


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Iterator[Slurm]:
    """A Slurm with one node."""
    packages = missing_packages()
    require(not packages, f"a real Slurm: apt-get install {' '.join(packages)}")
    with Slurm(tmp_path_factory.mktemp("slurm") / "slurm", cpus=32) as slurm:
        yield slurm


@pytest.fixture(scope="module")
def chromium(require: Callable[[bool, str], None]) -> Iterator[Browser]:
    """A headless Chromium, not for longer than a module: Playwright's event loop runs in this thread."""
    try:
        from harness import browser
    except ImportError:
        require(False, "playwright is not installed")
        raise
    require(browser.chromium() is not None, "no Chromium: apt-get install chromium, or name one in CHROMIUM")
    with browser.browser() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def f7t(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    """An embedded FirecREST. Files above 64 KiB need a transfer, so that tests of transfers are cheap."""
    settings = Settings(
        root=tmp_path_factory.mktemp("cluster"),
        cores=32,  # no test waits for the jobs of another one
        accounting_lag=0.2,
        max_ops_file_size=64 * 1024,
        kill_wait=0.5,
        faults=Plan(),
    )
    with LocalFirecREST(settings) as server:
        yield server


@pytest.fixture
def faults(f7t: LocalFirecREST) -> Iterator[Any]:
    """The fault plan of `f7t`, which is cleared when the test ends."""
    yield f7t.faults
    f7t.faults.clear()


@pytest.fixture
def connection(f7t: LocalFirecREST) -> Connection:
    """The connection to `f7t`."""
    return Connection.from_environment(f7t.environ)


@pytest.fixture
def workdir(f7t: LocalFirecREST, request: pytest.FixtureRequest) -> Path:
    """A new directory on the cluster, named after the test."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.nodeid.rpartition("/")[2])
    path = Path(f7t.home, name)
    path.mkdir()
    return path


class Demo(subprocess.Popen[str]):
    """A running demo."""

    def read_until(self, *words: str) -> str:
        """Read its messages until a line holds all of these words, and return them."""
        assert self.stderr is not None
        lines = []
        for line in self.stderr:
            lines.append(line)
            if all(word in line for word in words):
                return "".join(lines)
        pytest.fail(f"the demo ended before it printed {words}:\n{''.join(lines)}")


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start a demo; when the test ends, the demo must have ended and none of its processes may be left."""
    home, marker = tmp_path / "home", secrets.token_hex()
    started: list[Demo] = []

    def start(*command: str, keep: str = "0") -> Demo:
        process = Demo(
            [sys.executable, *command, "--home", str(home), "--json"],
            cwd=ROOT,
            env=os.environ | {MARKER: marker, "KEEP": keep, "COLUMNS": "200"},
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
    assert left_over_processes(home, marker) == []


def left_over_processes(home: Path, marker: str) -> list[str]:
    """Find processes that inherited the marker, or that work in the demo's directory."""
    left = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == marker or str(home) in " ".join([process.cwd(), *process.cmdline()]):
                left.append(f"{process.pid} {process.status()} {process.cmdline()}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return left
