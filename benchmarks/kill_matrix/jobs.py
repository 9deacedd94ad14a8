"""The cluster as its owner sees it, without a gateway."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Row:
    """One job, or element of an array, in the cluster's list."""

    job_id: str
    name: str
    state: str


class Jobs:
    """A client of the cluster; a context manager.

    Parameters:
        variables: what `firecrest-local` says about itself.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._http = httpx.Client(base_url=variables["FIRECREST_URL"], timeout=10, trust_env=False)
        self._until = 0.0

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def submit(self, script: str, folder: str, name: str) -> str:
        """Submit a job and give its id; wait where the server is away. Sent twice it may run twice."""
        job = {"script": script, "workingDirectory": folder, "name": name}
        while True:
            try:
                return str(self._request("POST", "/jobs", json={"job": job})["jobId"])
            except httpx.TransportError:
                time.sleep(0.5)

    def list(self) -> list[Row]:
        """All jobs of the last hours.

        Raises:
            httpx.HTTPError: the server is away.
        """
        jobs = self._request("GET", "/jobs")["jobs"] or []
        return [Row(str(job["jobId"]), job["name"] or "", job["status"]["state"]) for job in jobs]

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        if time.time() > self._until:
            secrets = {
                "grant_type": "client_credentials",
                "client_id": self._variables["FIRECREST_CLIENT_ID"],
                "client_secret": self._variables["FIRECREST_CLIENT_SECRET"],
            }
            token = self._http.post(self._variables["AUTH_TOKEN_URL"], data=secrets).raise_for_status().json()
            self._http.headers["Authorization"] = f"Bearer {token['access_token']}"
            self._until = time.time() + token.get("expires_in", 300) - 60
        path = f"/compute/{self._variables['FIRECREST_SYSTEM']}{path}"
        return self._http.request(method, path, **arguments).raise_for_status().json()
