"""An embedded FirecREST in its own process, on a free port."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from harness.environment import clean_environment
from harness.service import Service, wait_until
from harness.slurm import Slurm


class FirecRESTServer:
    """`firecrest-local` with its state in `home`; a context manager.

    `variables` are the environment variables that it prints when it is ready: FIRECREST_URL, AUTH_TOKEN_URL,
    FIRECREST_CLIENT_ID, FIRECREST_CLIENT_SECRET, FIRECREST_SYSTEM, FIRECREST_WORKDIR and, as the last one,
    AIRFLOW_CONN_FIRECREST_DEFAULT.

    :param home: a directory that does not exist yet
    :param options: more options of the command
    :param slurm: the Slurm that runs the jobs; without it, they are processes of this machine
    """

    def __init__(self, home: Path, *options: str, slurm: Slurm | None = None) -> None:
        self.home = home
        self._options = options
        self._slurm = slurm
        self.variables: Mapping[str, str] = {}

    def __enter__(self) -> FirecRESTServer:
        self.home.mkdir(mode=0o700, parents=True)  # it prints its secret there
        self._stdout = self.home / "variables.sh"
        scheduler, environment = ("process", {}) if self._slurm is None else ("slurm", self._slurm.environment)
        options = ["--scheduler", scheduler, *self._options]
        self.service = Service(
            "firecrest-local",
            [sys.executable, "-m", "firecrest_local", "--root", str(self.home / "root"), *options],
            environment={**clean_environment(), **environment},
            log=self.home / "firecrest-local.log",
            stdout=self._stdout,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self.service.stop()

    def wait(self) -> None:
        """Wait until it answers."""
        wait_until(self._ready, "the embedded FirecREST answers", services=[self.service])

    def _ready(self) -> bool:
        text = self._stdout.read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()
        exports = [line.removeprefix("export ") for line in lines if line.startswith("export ")]
        self.variables = dict(shlex.split(line)[0].split("=", 1) for line in exports)
        return "AIRFLOW_CONN_FIRECREST_DEFAULT" in self.variables

    def connection(self) -> dict[str, object]:
        """Return the fields of an Airflow connection to it."""
        connection: dict[str, object] = json.loads(self.variables["AIRFLOW_CONN_FIRECREST_DEFAULT"])
        return {**connection, "description": "The embedded FirecREST"}
