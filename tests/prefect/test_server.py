"""A real Prefect server: its command line, a flow that it serves, and real deaths of the flow's process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from firecrest_local import LocalFirecREST
from prefect_firecrest import FirecRESTCredentials

PREFECT = [sys.executable, "-m", "prefect"]
HERE = Path(__file__).parent
# A guard against what never happens, far above what it takes.
PATIENCE = 180.0


def until(happened: Callable[[], Any], what: str) -> Any:
    """Wait for a condition and return its value."""
    give_up_at = time.monotonic() + PATIENCE
    while not (value := happened()):
        assert time.monotonic() < give_up_at, f"{what} did not happen within {PATIENCE:.0f} s"
        time.sleep(0.1)
    return value


@contextmanager
def process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a process and what it starts, and end all of it."""
    with log.open("wb") as file:
        started = psutil.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        yield
    finally:
        for one in [*started.children(recursive=True), started]:
            one.kill()
        started.wait()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables with which processes find the server, without those of the harness."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE.parent.parent), os.environ.get("PYTHONPATH")])),
    }


class Api:
    """The server's API, as its UI uses it: asked again while the server's database is busy, which is a 503."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=60)

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def post(self, path: str, **body: Any) -> Any:
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **how: Any) -> Any:
        def answer() -> httpx.Response | None:
            response = self.client.request(method, path, **how)
            return None if response.status_code == 503 else response

        response = until(answer, f"an answer to {method} {path}")
        return None if response.status_code == 404 else response.raise_for_status().json()


@pytest.fixture(scope="module")
def api(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    url = environment["PREFECT_API_URL"]
    port = str(httpx.URL(url).port)
    log = tmp_path_factory.mktemp("logs")

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/health").is_success
        except httpx.TransportError:
            return False

    with process([*PREFECT, "server", "start", "--port", port], environment, log / "server"):
        until(answers, "the server's start")
        yield Api(url)


@pytest.fixture(scope="module")
def serve(
    api: Api, environment: dict[str, str], f7t: LocalFirecREST, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., str]]:
    """Start runs of the flow that a process serves."""
    save = (
        "import sys; from prefect_firecrest import FirecRESTCredentials;"
        "FirecRESTCredentials.model_validate_json(sys.stdin.read()).save('cluster')"
    )
    stored = {
        "url": f7t.url,
        "token_url": f7t.token_url,
        "client_id": f7t.client_id,
        "client_secret": f7t.client_secret,
        "system": f7t.system,
    }
    subprocess.run([sys.executable, "-c", save], env=environment, input=json.dumps(stored), text=True, check=True)

    def deployment() -> Any:
        return api.get("/deployments/name/relax/served")

    log = tmp_path_factory.mktemp("logs") / "served"
    with process([sys.executable, str(HERE / "served.py")], environment, log):
        deployment_id = until(deployment, "the deployment")["id"]

        def start(**parameters: Any) -> str:
            key = str(parameters)
            created = api.post(
                f"/deployments/{deployment_id}/create_flow_run", parameters=parameters, idempotency_key=key
            )
            return created["id"]

        yield start


@pytest.fixture
def state(api: Api) -> Callable[[str], str]:
    return lambda flow_run_id: api.get(f"/flow_runs/{flow_run_id}")["state"]["type"]


@pytest.fixture
def lines(workdir: Path) -> Callable[[str], list[str]]:
    return lambda name: (workdir / name).read_text().split() if (workdir / name).exists() else []


@pytest.fixture
def jobs_in(credentials: FirecRESTCredentials) -> Callable[[Path], int]:
    """Count the jobs that were submitted for a directory, whether they ran anything or not."""

    async def count(path: Path) -> int:
        async with credentials.get_client() as client:
            rows = await client.get_jobs(credentials.system)
            return sum(row.working_directory == str(path) for row in rows)

    return lambda path: asyncio.run(count(path))


def test_prefect_registers_the_collection(api, environment) -> None:
    command = [*PREFECT, "block", "register", "-m", "prefect_firecrest"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "FirecREST Credentials" in told.stdout
    assert "FirecREST Job" in told.stdout
    slugs = {block_type["slug"] for block_type in api.post("/block_types/filter")}
    assert {"firecrest-credentials", "firecrest-job"} <= slugs


def test_a_flow_run_whose_process_is_killed_adopts_its_jobs(api, serve, state, workdir, lines, jobs_in) -> None:
    flow_run = serve(working_dir=str(workdir))
    until(lambda: len(lines("runs")) == 2 and lines("processes"), "the first submission")
    os.kill(int(lines("processes")[0]), signal.SIGKILL)
    until(lambda: state(flow_run) == "CRASHED", "the crash")
    # What the button "Retry" does in the UI.
    api.post(f"/flow_runs/{flow_run}/set_state", state={"type": "SCHEDULED", "name": "AwaitingRetry"})
    until(lambda: len(lines("processes")) == 2, "the second submission")
    (workdir / "go").touch()
    until(lambda: state(flow_run) == "COMPLETED", "the end")
    assert len(lines("runs")) == 2
    assert jobs_in(workdir) == 2
    assert api.get(f"/flow_runs/{flow_run}")["run_count"] == 2


def test_a_flow_run_that_is_suspended_and_resumed_adopts_its_jobs(api, serve, state, workdir, lines, jobs_in) -> None:
    flow_run = serve(working_dir=str(workdir), suspend=True)
    until(lambda: state(flow_run) == "PAUSED", "the suspension")
    api.post(f"/flow_runs/{flow_run}/resume")
    until(lambda: len(lines("processes")) == 2, "the second submission")
    (workdir / "go").touch()
    until(lambda: state(flow_run) == "COMPLETED", "the end")
    assert len(lines("runs")) == 2
    assert jobs_in(workdir) == 2
