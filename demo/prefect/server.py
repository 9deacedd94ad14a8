"""A real Prefect server on a free port."""

from __future__ import annotations

import sys
from pathlib import Path

from demo.deployment import free_port
from demo.prefect.api import PrefectAPI
from demo.services import Service, surroundings, wait_until


class PrefectServer:
    """A Prefect server with its state in `home`; a context manager.

    It is a server for one machine: SQLite, listening on 127.0.0.1 alone, without a login.

    :param home: becomes PREFECT_HOME; a directory that does not exist yet
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_port()}"
        self.api = PrefectAPI(self.url)
        # What a program needs to find it, and to keep to itself otherwise.
        self.variables: dict[str, str] = {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_UI_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLIENT_METRICS_ENABLED": "false",
            "PREFECT_CLI_PROMPT": "false",
            "DO_NOT_TRACK": "1",
        }

    def __enter__(self) -> PrefectServer:
        self.home.mkdir(parents=True)
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        self.service = Service(
            "Prefect's server",
            [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", port],
            environment=surroundings()
            | self.variables
            | {
                "PREFECT_UI_API_URL": f"{self.url}/api",
                "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
                # Of a few runs nobody wants to wait for the next loop.
                "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            },
            log=self.home / "server.log",
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self.api.close()
        self.service.stop()

    def wait(self) -> None:
        """Wait until it answers."""
        wait_until(self.api.healthy, "Prefect's server answers", services=[self.service])
