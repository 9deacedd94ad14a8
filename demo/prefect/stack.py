"""A Prefect server beside an embedded FirecREST, and a process that serves the example flows."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from demo.assembly import Assembly
from demo.cluster import Cluster
from demo.prefect.server import PrefectServer
from demo.services import Service, surroundings, wait_until
from demo.stack import ROOT

FLOWS = ("structure_energy", "train_model", "parameter_sweep")


class PrefectStack(Assembly):
    """Everything that the demo starts; a context manager that stops all of it.

    :param home: a directory that does not exist yet
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.results = home / "results"
        self.seconds: dict[str, float] = {}
        super().__init__()

    def _start(self) -> None:
        started = time.monotonic()
        self.home.mkdir(mode=0o700, parents=True)
        self.results.mkdir()
        self.cluster = self._stack.enter_context(Cluster(self.home / "cluster"))
        self.server = self._stack.enter_context(PrefectServer(self.home / "prefect"))
        self.api = self.server.api
        self.cluster.wait()
        self.seconds["firecrest_ready"] = time.monotonic() - started
        self.server.wait()
        self.seconds["prefect_ready"] = time.monotonic() - started

        self.served = Service(
            "the process that serves the flows",
            [sys.executable, str(ROOT / "example_flows" / "serve.py")],
            environment=surroundings()
            | self.server.variables
            | dict(self.cluster.variables)
            | {
                "EXAMPLES_FOLDER": str(self.results),
                "EXAMPLES_PYTHON": sys.executable,
                "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            },
            log=self.home / "flows.log",
        )
        self._stack.callback(self.served.stop)
        services = [self.cluster.service, self.server.service, self.served]
        wait_until(lambda: set(FLOWS) <= set(self.api.deployments()), "the flows are served", services=services)
        self.seconds["flows_served"] = time.monotonic() - started

    def start(self, flow: str, **parameters: object) -> str:
        """Have a flow run; returns the flow run's id."""
        return self.api.start(self.api.deployments()[flow], parameters)
