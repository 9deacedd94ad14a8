"""A Prefect server beside an embedded FirecREST, with a process that serves the example flows."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from harness.environment import clean_environment
from harness.examples import EXAMPLE_FLOWS
from harness.firecrest import FirecRESTServer
from harness.prefect.server import PrefectServer
from harness.service import Service, wait_until
from harness.service_group import ServiceGroup

FLOWS = (
    "structure_energy",
    "train_model",
    "parameter_sweep",
    "array_sweep",
    "python_function",
    "train_with_checkpoints",
    "race_the_queues",
)


class PrefectStack(ServiceGroup):
    """Prefect, the embedded FirecREST and the served example flows; a context manager.

    `seconds` are the times from the start until FirecREST and Prefect answered and until the flows were served.

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
        self.firecrest = self._stack.enter_context(FirecRESTServer(self.home / "cluster"))
        self.server = self._stack.enter_context(PrefectServer(self.home / "prefect"))
        self.api = self.server.api
        self.firecrest.wait()
        self.seconds["firecrest_ready"] = time.monotonic() - started
        self.server.wait()
        self.seconds["prefect_ready"] = time.monotonic() - started

        self.served = Service(
            "the process that serves the flows",
            [sys.executable, str(EXAMPLE_FLOWS / "serve.py")],
            environment=clean_environment()
            | self.server.variables
            | dict(self.firecrest.variables)
            | {
                "EXAMPLES_FOLDER": str(self.results),
                "EXAMPLES_PYTHON": sys.executable,
                "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            },
            log=self.home / "flows.log",
        )
        self._stack.callback(self.served.stop)
        services = [self.firecrest.service, self.server.service, self.served]
        wait_until(lambda: set(FLOWS) <= set(self.api.deployments()), "the flows are served", services=services)
        self.seconds["flows_served"] = time.monotonic() - started

    def start(self, flow: str, **parameters: object) -> str:
        """Start a run of an example flow and return its id."""
        return self.api.start(self.api.deployments()[flow], parameters)
