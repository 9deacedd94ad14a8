"""An embedded FirecREST to test, and a small client for it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from firecrest_local import LocalFirecREST, Settings

REPOSITORY = Path(__file__).parent.parent.parent
CONTRACT = Path(__file__).parent.parent / "contract"
TERMINAL_STATES = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Return the first true value of `condition`, or fail."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    pytest.fail(f"waited {seconds} s in vain until: {what}")


class Api:
    """A client with a token, and the requests that tests send most."""

    def __init__(self, url: str, token_url: str, client_id: str, client_secret: str, system: str) -> None:
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        token = httpx.post(token_url, data=form).raise_for_status().json()["access_token"]
        self.http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
        )
        self.jobs_url = f"/compute/{system}/jobs"
        self.ops_url = f"/filesystem/{system}/ops"
        self.transfer_url = f"/filesystem/{system}/transfer"

    def try_submit(self, script: str, working_dir: Any, **fields: Any) -> httpx.Response:
        job = {"workingDirectory": str(working_dir), "script": script, **fields}
        return self.http.post(self.jobs_url, json={"job": job})

    def submit(self, script: str, working_dir: Any, **fields: Any) -> str:
        response = self.try_submit(script, working_dir, **fields)
        assert response.status_code == 201, response.text
        return str(response.json()["jobId"])

    def rows(self, job_id: str) -> list[dict[str, Any]]:
        return list(self.http.get(f"{self.jobs_url}/{job_id}").raise_for_status().json()["jobs"])

    def row(self, job_id: str) -> dict[str, Any]:
        (row,) = self.rows(job_id)
        return dict(row)

    def state(self, job_id: str) -> str:
        return str(self.row(job_id)["status"]["state"])

    def reason(self, job_id: str) -> str:
        return str(self.row(job_id)["status"]["stateReason"])

    def list(self, **params: Any) -> list[dict[str, Any]]:
        return list(self.http.get(self.jobs_url, params=params).raise_for_status().json()["jobs"])

    def cancel(self, job_id: str) -> httpx.Response:
        return self.http.delete(f"{self.jobs_url}/{job_id}")

    def wait_running(self, job_id: str) -> None:
        def begun() -> bool:
            tasks = self.row(job_id)["tasks"]
            return bool(tasks) and tasks[0]["status"]["state"] == "RUNNING"

        wait_until(begun, f"job {job_id} runs")

    def wait_end(self, job_id: str, seconds: float = 20.0) -> dict[str, Any]:
        wait_until(
            lambda: all(row["status"]["state"].startswith(TERMINAL_STATES) for row in self.rows(job_id)),
            f"job {job_id} ends",
            seconds,
        )
        return self.rows(job_id)[0]


class Command:
    """A `firecrest-local` process."""

    def __init__(self, root: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        words = [sys.executable, "-m", "firecrest_local", "--root", str(root), "--cores", "2", *options]
        self.process = subprocess.Popen(
            words,
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONFAULTHANDLER": "1"} | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.environ: dict[str, str] = {}
        assert self.process.stdout is not None
        for line in self.process.stdout:
            export, assignment = shlex.split(line)
            assert export == "export"
            name, _, value = assignment.partition("=")
            self.environ[name] = value
            if name == "AIRFLOW_CONN_FIRECREST_DEFAULT":
                return
        raise AssertionError(self.process.communicate()[1])

    @property
    def home(self) -> Path:
        return Path(self.environ["FIRECREST_WORKDIR"])

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        try:
            output, errors = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            # Its fault handler prints where it hangs.
            self.process.send_signal(signal.SIGABRT)
            pytest.fail(self.process.communicate()[1])
        return self.process.returncode, output, errors


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., LocalFirecREST]]:
    """Start embedded servers with the given settings, and stop them after the test."""
    servers: list[LocalFirecREST] = []

    def start(**settings: Any) -> LocalFirecREST:
        defaults = {"root": tmp_path / "cluster", "cores": 4, "accounting_lag": 0.0, "kill_wait": 0.3}
        server = LocalFirecREST(Settings(**{**defaults, **settings}))
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def connect() -> Callable[[LocalFirecREST], Api]:
    """Make a client for a server."""

    def make(server: LocalFirecREST) -> Api:
        return Api(server.url, server.token_url, server.client_id, server.client_secret, server.system)

    return make


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Wait until a condition holds."""
    return wait_until


@pytest.fixture(scope="session")
def connect_by_environment() -> Callable[[dict[str, str]], Api]:
    """Make a client from the variables that the command prints."""

    def make(environ: dict[str, str]) -> Api:
        return Api(
            environ["FIRECREST_URL"],
            environ["AUTH_TOKEN_URL"],
            environ["FIRECREST_CLIENT_ID"],
            environ["FIRECREST_CLIENT_SECRET"],
            environ["FIRECREST_SYSTEM"],
        )

    return make


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Start the command, and stop it after the test if it still runs."""
    started: list[Command] = []

    def start(*options: str, **keywords: Any) -> Command:
        started.append(Command(tmp_path / "cluster", *options, **keywords))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGTERM)


@pytest.fixture(scope="session")
def contract() -> Path:
    """The directory of recordings."""
    return CONTRACT


@pytest.fixture(scope="session")
def shape() -> Callable[[Any], Any]:
    """Reduce JSON to its shape: keys and types. A list becomes the set of its elements' shapes."""

    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return tuple(sorted((key, of(part)) for key, part in value.items()))
        if isinstance(value, list):
            return ("list", *sorted({of(part) for part in value}, key=repr))
        if isinstance(value, bool) or value is None or isinstance(value, str):
            return type(value).__name__
        return "number"

    return of
