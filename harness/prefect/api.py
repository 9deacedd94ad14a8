"""A client of Prefect's REST API, with the calls that a few flow runs need."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

FINISHED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def _busy(error: BaseException) -> bool:
    """Return whether the server answered 503, as it does while its SQLite database is locked.

    Prefect's own clients retry such a request too.
    """
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 503


class PrefectAPI:
    """A client of one Prefect server.

    :param url: its address
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/api", timeout=120, trust_env=False)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def healthy(self) -> bool:
        """Return whether it answers."""
        try:
            return self._http.get("/health").is_success
        except httpx.TransportError:
            return False

    @retry(retry=retry_if_exception(_busy), wait=wait_fixed(1), stop=stop_after_delay(60), reraise=True)
    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request and return the decoded response.

        :raises httpx.HTTPStatusError: the answer is an error; the message holds Prefect's explanation
        """
        response = self._http.request(method, path, json=body)
        if response.is_error:
            message = f"{method} {path}: {response.status_code} {response.text}"
            raise httpx.HTTPStatusError(message, request=response.request, response=response)
        return response.json() if response.content else None

    def deployments(self) -> dict[str, str]:
        """Return the ids of the deployments, by the names of their flow functions."""
        deployments = self.request("POST", "/deployments/filter", {})
        return {each["entrypoint"].rpartition(":")[2]: each["id"] for each in deployments}

    def start(self, deployment_id: str, parameters: dict[str, Any] | None = None) -> str:
        """Start a flow run of a deployment and return its id."""
        body = {"parameters": parameters or {}, "state": {"type": "SCHEDULED"}, "idempotency_key": str(uuid4())}
        return str(self.request("POST", f"/deployments/{deployment_id}/create_flow_run", body)["id"])

    def flow_run(self, flow_run_id: str) -> dict[str, Any]:
        """Return a flow run; its `state` has `type`, `name` and `message`."""
        return dict(self.request("GET", f"/flow_runs/{flow_run_id}"))

    def task_runs(self, flow_run_id: str) -> list[dict[str, Any]]:
        """Return the task runs of a flow run, in the order of their start."""
        body = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return list(self.request("POST", "/task_runs/filter", body))

    def log(self, flow_run_id: str) -> str:
        """Return the log of a flow run and of its tasks."""
        body = {"logs": {"flow_run_id": {"any_": [flow_run_id]}}, "sort": "TIMESTAMP_ASC"}
        return "\n".join(each["message"] for each in self.request("POST", "/logs/filter", body))

    def artifacts(self, flow_run_id: str) -> list[dict[str, Any]]:
        """Return the artifacts of a flow run, each with `key`, `type`, `data` and `description`."""
        return list(self.request("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}}))
