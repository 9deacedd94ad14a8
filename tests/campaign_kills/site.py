"""The embedded FirecREST that the cases share: it loses answers, and is killed and started again."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx

from harness.firecrest import FirecRESTServer
from harness.service import wait_until
from tests.chaos.cluster import ClusterClient, JobRow

#: Ends of jobs in the list, as far as the embedded server has them.
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
#: Cores of the embedded cluster: no job waits for those of other cases.
_CORES = 256
#: Seconds between two restarts.
_RESTARTS = (10.0, 25.0)
_PLAN = """
seed = {seed}
invisible = 0.3

[[rules]]
fault = "lose_answer"
method = "POST"
route = "/compute/**/jobs"
probability = 0.12

[[rules]]
fault = "timeout_408"
method = "POST"
route = "/compute/**/jobs"
probability = 0.05

[[rules]]
fault = "duplicate"
method = "POST"
route = "/compute/**/jobs"
probability = 0.05

[[rules]]
fault = "lose_answer"
method = "POST"
route = "/filesystem/**"
probability = 0.1

[[rules]]
fault = "delay"
route = "/{{all:path}}"
probability = 0.05
seconds = 0.5
before = "answer"

[[rules]]
fault = "status"
status = 502
route = "/compute/**"
probability = 0.03

[[rules]]
fault = "reset"
route = "/filesystem/**"
probability = 0.03
"""


class Site:
    """The server and what it shows; a context manager.

    :param home: a directory that does not exist yet
    :param seed: decides the faults and the restarts
    """

    def __init__(self, home: Path, seed: int) -> None:
        self._home = home
        self._seed = seed
        self._over = threading.Event()
        self.restarts = 0

    def __enter__(self) -> Site:
        """Start the server, and begin to kill it now and then."""
        self._home.mkdir(parents=True)
        plan = self._home / "faults.toml"
        plan.write_text(_PLAN.format(seed=self._seed))
        with ExitStack() as stack:
            options = ("--cores", str(_CORES), "--faults", str(plan))
            self._server = stack.enter_context(FirecRESTServer(self._home / "cluster", *options))
            self._server.wait()
            self.variables = dict(self._server.variables)
            self._cluster = stack.enter_context(ClusterClient(self.variables))
            thread = threading.Thread(target=self._restart_now_and_then, name="restarts")
            thread.start()
            stack.callback(thread.join)
            stack.callback(self._over.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the server and all jobs."""
        self._stack.close()

    def folder(self, name: str) -> Path:
        """Make a directory on the cluster."""
        path = Path(self.variables["FIRECREST_WORKDIR"], name)
        path.mkdir()
        return path

    def jobs(self, name: str) -> list[JobRow]:
        """Return the jobs of this name, whatever was added to it."""
        while True:
            try:
                return [row for row in self._cluster.list_jobs() if row.name.partition("-")[0] == name]
            except (httpx.HTTPError, ValueError):  # it is down, or this is one of its faults
                time.sleep(0.2)

    def live_jobs(self, name: str, timeout: float) -> Sequence[JobRow]:
        """Wait until no job of this name waits or runs.

        :returns: those that still do after the timeout
        """
        deadline = time.monotonic() + timeout
        while live := [row for row in self.jobs(name) if not row.state.startswith(ENDED)]:
            if time.monotonic() > deadline:
                return live
            time.sleep(0.3)
        return []

    def _restart_now_and_then(self) -> None:
        rng, service = random.Random(f"{self._seed}/restarts"), self._server.service
        while not self._over.wait(rng.uniform(*_RESTARTS)):
            os.kill(service.pid, signal.SIGKILL)  # its jobs outlive it
            wait_until(lambda: service.exit_code is not None, "the server is dead", services=[])
            self._over.wait(rng.uniform(0.1, 2.0))
            service.start()
            self.restarts += 1
            self.jobs("")  # returns when it answers again
