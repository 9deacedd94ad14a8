"""The health probes of the services behind the API."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Literal

from firecrest_local.errors import ApiError

Service = Literal["scheduler", "ssh", "filesystem", "s3"]
SERVICES: tuple[Service, ...] = ("scheduler", "ssh", "filesystem", "s3")
#: Seconds between two probes.
INTERVAL = 60


class Health:
    """The last result for each service. Requests to an unhealthy service are refused until the next result.

    :param system: the system's name.
    :param path: the file system's path.
    """

    def __init__(self, system: str, path: str) -> None:
        self._system = system
        self._path = path
        self._since = time.time()
        self._problems: dict[Service, str] = {}

    def set(self, service: Service, *, healthy: bool, message: str = "") -> None:
        """Record the result of a probe."""
        if healthy:
            self._problems.pop(service, None)
        else:
            self._problems[service] = message

    def require(self, service: Service) -> None:
        """Refuse a request that needs an unhealthy service.

        :raises ApiError: 503.
        """
        if service not in self._problems:
            return
        if service == "filesystem":
            raise ApiError(503, f"The requested filesystem ({self._path} on {self._system}) is unhealthy.")
        raise ApiError(503, f"The {service} service for the requested system ({self._system}) is unhealthy.")

    @property
    def last_check(self) -> float:
        """When the probes ran last, as a Unix time."""
        return self._since + (time.time() - self._since) // INTERVAL * INTERVAL

    def report(self) -> list[dict[str, Any]]:
        """Return all services as `/status/systems` shows them."""
        rows = []
        for service in SERVICES:
            healthy = service not in self._problems
            message = None if healthy else self._problems[service]
            if healthy and service == "scheduler":
                message = "[{'mode': 'primary', 'hostname': 'localhost', 'pinged': 'UP'}]"
            row: dict[str, Any] = {
                "serviceType": service,
                "lastChecked": timestamp(self.last_check),
                "latency": 0.001,
                "healthy": healthy,
                "message": message,
            }
            if service == "filesystem":
                row["path"] = self._path
            rows.append(row)
        return rows


def timestamp(moment: float) -> str:
    """Write a Unix time as the API does."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
