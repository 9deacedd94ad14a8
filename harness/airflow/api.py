"""A client of Airflow's REST API, with the calls that a few DAG runs need."""

from __future__ import annotations

import json
from typing import Any

import httpx

FINISHED = {"success", "failed"}


class AirflowAPI:
    """A client of one Airflow; a context manager.

    :param url: address of Airflow's API server
    :param user: a user of its simple auth manager
    :param password: that user's password
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._login = {"username": user, "password": password}
        self._http = httpx.Client(base_url=url, timeout=120, trust_env=False)

    def __enter__(self) -> AirflowAPI:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def healthy(self) -> bool:
        """Return whether the API answers and every component of Airflow has sent its heartbeat."""
        try:
            health = self._http.get("/api/v2/monitor/health").json()
        except (httpx.TransportError, ValueError):
            return False
        return all(component["status"] == "healthy" for component in health.values())

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request and return the decoded response.

        :raises httpx.HTTPStatusError: the answer is an error; the message holds Airflow's explanation
        """
        if "Authorization" not in self._http.headers:
            token = self._http.post("/auth/token", json=self._login).raise_for_status().json()["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
        response = self._http.request(method, f"/api/v2{path}", **arguments)
        if response.is_error:
            message = f"{method} {path}: {response.status_code} {response.text}"
            raise httpx.HTTPStatusError(message, request=response.request, response=response)
        return response.json() if response.content else None

    def create_connection(self, connection_id: str, fields: dict[str, Any]) -> None:
        """Create a connection."""
        body = fields | {"connection_id": connection_id, "extra": json.dumps(fields.get("extra", {}))}
        self.request("POST", "/connections", json=body)

    def dags(self) -> set[str]:
        """Return the ids of the DAGs that have been parsed."""
        return {dag["dag_id"] for dag in self.request("GET", "/dags")["dags"]}

    def import_errors(self) -> dict[str, str]:
        """Return the stack traces of DAG files that cannot be parsed, by file name."""
        errors = self.request("GET", "/importErrors")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in errors}

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any] | None = None) -> None:
        """Start a run of a DAG."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}
        self.request("POST", f"/dags/{dag_id}/dagRuns", json=body)

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run: queued, running, success or failed."""
        return str(self.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run, in the order of their start."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        instances: list[dict[str, Any]] = self.request("GET", path, params={"limit": 100})["task_instances"]
        return sorted(instances, key=lambda instance: instance["start_date"] or "9999")

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Read an XCom of a task; the value that it has returned, unless a key is given."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.request("GET", path, params={"deserialize": "true"})["value"]

    def log(self, dag_id: str, run_id: str, instance: dict[str, Any]) -> str:
        """Return the log of a task instance's last try as text, with the types and messages of its errors."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{instance['task_id']}/logs/{instance['try_number']}"
        parameters = {"full_content": "true", "map_index": instance["map_index"]}
        content = self.request("GET", path, params=parameters, headers={"Accept": "application/json"})["content"]
        return "\n".join(_line(entry) for entry in content)


def _line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    line = " ".join(filter(None, [entry.get("timestamp"), entry.get("level"), entry.get("event")]))
    for error in entry.get("error_detail") or []:
        line += f"\n    {error['exc_type']}: {error['exc_value']}"
    return line
