"""A real Prefect server in processes of its own, flows that it serves, and how to wait for what they do."""

from __future__ import annotations

import json
import os
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
import trustme

from firecrest_local import LocalFirecREST

PREFECT = [sys.executable, "-m", "prefect"]
HERE = Path(__file__).parent
# A limit for what never happens, far above what it takes.
PATIENCE = 180.0


def until(happened: Callable[[], Any], what: str) -> Any:
    """Wait for a condition and return its value."""
    give_up_at = time.monotonic() + PATIENCE
    while not (value := happened()):
        assert time.monotonic() < give_up_at, f"{what} did not happen within {PATIENCE:.0f} s"
        time.sleep(0.1)
    return value


@contextmanager
def process(
    command: list[str], environment: dict[str, str], log: Path, directory: Path | None = None
) -> Iterator[psutil.Popen]:
    """Run a process and what it starts, and end all of it."""
    with log.open("wb") as file:
        started = psutil.Popen(command, env=environment, stdout=file, stderr=file, cwd=directory)
    try:
        yield started
    finally:
        for one in [*started.children(recursive=True), started]:
            one.kill()
        started.wait()


def authority(folder: Path) -> Path:
    """Write a file with one certificate, for Prefect: each of its clients reads all authorities otherwise."""
    path = folder / "authority.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


def environment(home: Path) -> dict[str, str]:
    """Return the variables with which processes find a server of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_API_SSL_CERT_FILE": str(authority(home)),
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

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path)

    def state(self, flow_run_id: str) -> str:
        """Return the type of a flow run's state."""
        return self.get(f"/flow_runs/{flow_run_id}")["state"]["type"]

    def cancel(self, flow_run_id: str) -> None:
        """Do what the button does in the UI."""
        self.post(f"/flow_runs/{flow_run_id}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})

    def retry(self, flow_run_id: str) -> None:
        """Do what the button does in the UI."""
        self.post(f"/flow_runs/{flow_run_id}/set_state", state={"type": "SCHEDULED", "name": "AwaitingRetry"})

    def record_artifacts(self, flow_run_id: str) -> list[str]:
        """Return the ids of the artifacts that hold job records of a flow run."""
        artifacts = self.post("/artifacts/filter", artifacts={"type": {"any_": ["firecrest-jobs"]}})
        return [artifact["id"] for artifact in artifacts if flow_run_id in artifact["data"]["flow_runs"]]

    def job_table(self, flow_run_id: str) -> list[dict[str, str]]:
        """Return the rows of a flow run's newest table of jobs."""
        tables = self.post(
            "/artifacts/filter",
            artifacts={"key": {"any_": ["firecrest-jobs"]}, "flow_run_id": {"any_": [flow_run_id]}},
            sort="CREATED_DESC",
        )
        return json.loads(tables[0]["data"]) if tables else []

    def job_events(self, row: dict[str, str]) -> list[str]:
        """Return the names of the events of a job in such a table."""
        resource = f"firecrest.job.{row['System']}.{row['Job']}"
        return [one["event"] for one in self.post("/events/filter", filter={"resource": {"id": [resource]}})["events"]]

    def log(self, flow_run_id: str) -> str:
        """Return the log of a flow run."""
        lines = self.post("/logs/filter", logs={"flow_run_id": {"any_": [flow_run_id]}}, limit=200)
        return "\n".join(line["message"] for line in lines)

    def _ask(self, method: str, path: str, **how: Any) -> Any:
        def answer() -> httpx.Response | None:
            response = self.client.request(method, path, **how)
            return None if response.status_code == 503 else response

        response = until(answer, f"an answer to {method} {path}")
        if response.status_code == 404:
            return None
        return response.raise_for_status().json() if response.content else True


@contextmanager
def server(environment: dict[str, str], logs: Path) -> Iterator[Api]:
    """Run the server that an environment names."""
    api = Api(environment["PREFECT_API_URL"])

    def answers() -> bool:
        try:
            return api.client.get("/health").is_success
        except httpx.TransportError:
            return False

    port = str(api.client.base_url.port)
    with process([*PREFECT, "server", "start", "--port", port], environment, logs / "server"):
        until(answers, "the server's start")
        yield api


def store_credentials(environment: dict[str, str], f7t: LocalFirecREST) -> None:
    """Save the block ``cluster``."""
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


class Served:
    """A process that serves the flows of ``served.py``, and starts their runs.

    :param name: of its deployments; processes that serve the same ones take each other's runs
    """

    def __init__(self, api: Api, environment: dict[str, str], logs: Path, name: str = "served") -> None:
        self._api, self._environment, self._log, self._name = api, environment, logs / "served", name

    @contextmanager
    def running(self) -> Iterator[psutil.Popen]:
        """Serve the flows, for a while."""
        with process([sys.executable, str(HERE / "served.py"), self._name], self._environment, self._log) as runner:
            yield runner

    def start(self, flow: str, **parameters: Any) -> str:
        """Start a flow run and return its id."""
        deployment = until(lambda: self._api.get(f"/deployments/name/{flow}/{self._name}"), f"the deployment of {flow}")
        created = self._api.post(
            f"/deployments/{deployment['id']}/create_flow_run", parameters=parameters, idempotency_key=str(parameters)
        )
        return created["id"]
