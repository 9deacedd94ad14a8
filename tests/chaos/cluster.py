"""A client of the embedded FirecREST that does not go through the gateway."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class JobRow:
    """One row of the job list: a job or an array element."""

    job_id: str
    name: str
    state: str


class ClusterClient:
    """A client of the embedded FirecREST; a context manager.

    :param variables: the variables that `firecrest-local` prints
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._http = httpx.Client(base_url=variables["FIRECREST_URL"], timeout=10, trust_env=False)
        self._token_expires = 0.0

    def __enter__(self) -> ClusterClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def submit(self, script: str, folder: str, name: str) -> str:
        """Submit a job and return its id; while the server is down, try again. The job may run twice."""
        job = {"script": script, "workingDirectory": folder, "name": name}
        while True:
            try:
                return str(self._request("POST", "/jobs", json={"job": job})["jobId"])
            except httpx.TransportError:
                time.sleep(0.5)

    def list_jobs(self) -> list[JobRow]:
        """List all jobs of the last hours.

        :raises httpx.HTTPError: the server is down
        """
        jobs = self._request("GET", "/jobs")["jobs"] or []
        return [JobRow(str(job["jobId"]), job["name"] or "", job["status"]["state"]) for job in jobs]

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        if time.time() > self._token_expires:
            form = {
                "grant_type": "client_credentials",
                "client_id": self._variables["FIRECREST_CLIENT_ID"],
                "client_secret": self._variables["FIRECREST_CLIENT_SECRET"],
            }
            token = self._http.post(self._variables["AUTH_TOKEN_URL"], data=form).raise_for_status().json()
            self._http.headers["Authorization"] = f"Bearer {token['access_token']}"
            self._token_expires = time.time() + token.get("expires_in", 300) - 60
        path = f"/compute/{self._variables['FIRECREST_SYSTEM']}{path}"
        return self._http.request(method, path, **arguments).raise_for_status().json()
