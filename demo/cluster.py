"""A cluster: an embedded FirecREST on a free port, with jobs of its own or before a Slurm."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from demo.services import Service, surroundings, wait_until
from demo.slurm import Slurm


class Cluster:
    """`firecrest-local` with its state in `home`; a context manager.

    `variables` is what it says about itself: FIRECREST_URL, AUTH_TOKEN_URL, FIRECREST_CLIENT_ID,
    FIRECREST_CLIENT_SECRET, FIRECREST_SYSTEM and FIRECREST_WORKDIR, which is said last.

    :param home: a directory that does not exist yet
    :param options: more options of the command
    :param slurm: what runs the jobs; without it they are processes of this machine
    """

    def __init__(self, home: Path, *options: str, slurm: Slurm | None = None) -> None:
        self.home = home
        self._options = options
        self._slurm = slurm
        self.variables: Mapping[str, str] = {}

    def __enter__(self) -> Cluster:
        self.home.mkdir(parents=True)
        self._says = self.home / "variables.sh"
        scheduler, known = ("process", {}) if self._slurm is None else ("slurm", self._slurm.environment)
        options = ["--scheduler", scheduler, *self._options]
        self.service = Service(
            "firecrest-local",
            [sys.executable, "-m", "firecrest_local", "--root", str(self.home / "root"), *options],
            environment={**surroundings(), **known},
            log=self.home / "firecrest-local.log",
            output=self._says,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self.service.stop()

    def wait(self) -> None:
        """Wait until it answers."""
        wait_until(self._ready, "the embedded FirecREST answers", services=[self.service])

    def _ready(self) -> bool:
        text = self._says.read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()
        exports = [line.removeprefix("export ") for line in lines if line.startswith("export ")]
        self.variables = dict(shlex.split(line)[0].split("=", 1) for line in exports)
        return "FIRECREST_WORKDIR" in self.variables

    def connection(self) -> dict[str, object]:
        """The fields of Airflow's connection to it."""
        return {
            "conn_type": "firecrest",
            "description": "The embedded FirecREST of the demo",
            "host": self.variables["FIRECREST_URL"],
            "login": self.variables["FIRECREST_CLIENT_ID"],
            "password": self.variables["FIRECREST_CLIENT_SECRET"],
            "extra": {
                "token_url": self.variables["AUTH_TOKEN_URL"],
                "system": self.variables["FIRECREST_SYSTEM"],
            },
        }
