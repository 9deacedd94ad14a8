"""A real Prefect server on a free port."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.environment import clean_environment
from harness.ports import free_port
from harness.prefect.api import PrefectAPI
from harness.service import Service, wait_until


class PrefectServer:
    """A Prefect server with its state in `home`; a context manager.

    It is for one machine: SQLite, no login. It listens on 127.0.0.1 only.

    `variables` are the environment variables with which programs find it and keep their own state in `home`.

    :param home: PREFECT_HOME; a directory that does not exist yet
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_port()}"
        self.api = PrefectAPI(self.url)
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
            environment=clean_environment()
            | self.variables
            | {
                "PREFECT_UI_API_URL": f"{self.url}/api",
                "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
                # Shorter than the default, since a few runs would mostly wait for the next loop.
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
