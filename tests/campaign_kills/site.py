"""The embedded FirecREST that the cases share: it loses answers, and is killed and started again."""

from __future__ import annotations

import random
import secrets
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from firecrest_local import LocalFirecREST, Plan, Settings
from harness.ports import free_port
from tests.campaign_kills.forks import ends_within, send_signal, spawn
from tests.chaos.cluster import ClusterClient, JobRow

#: Ends of jobs in the list, as far as the embedded server has them.
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
#: Cores of the embedded cluster: no job waits for those of other cases.
_CORES = 256
#: Seconds between two restarts.
_RESTARTS = (10.0, 25.0)
_POST_JOB = {"method": "POST", "route": "/compute/**/jobs"}
_PLAN: dict[str, Any] = {
    "invisible": 0.3,
    "rules": [
        {"fault": "lose_answer", **_POST_JOB, "probability": 0.12},
        {"fault": "timeout_408", **_POST_JOB, "probability": 0.05},
        {"fault": "duplicate", **_POST_JOB, "probability": 0.05},
        {"fault": "lose_answer", "method": "POST", "route": "/filesystem/**", "probability": 0.1},
        {"fault": "delay", "probability": 0.05, "seconds": 0.5, "before": "answer"},
        {"fault": "status", "status": 502, "route": "/compute/**", "probability": 0.03},
        {"fault": "reset", "route": "/filesystem/**", "probability": 0.03},
    ],
}


def _serve(settings: Settings) -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with LocalFirecREST(settings):
        while True:
            signal.pause()


class Site:
    """The server and what it shows; a context manager.

    :param home: a directory that does not exist yet
    :param seed: decides the faults and the restarts
    """

    def __init__(self, home: Path, seed: int) -> None:
        self._seed = seed
        self._settings = Settings(
            root=home,
            port=free_port(),
            client_secret=secrets.token_hex(),
            cores=_CORES,
            faults=Plan.model_validate({"seed": seed, **_PLAN}),
        )
        self._over = threading.Event()
        self.restarts = 0

    def __enter__(self) -> Site:
        """Start the server, and begin to kill it now and then."""
        settings = self._settings
        settings.root.mkdir(parents=True)
        with LocalFirecREST(settings) as server:  # makes the directories, and says what clients need
            self.variables = server.environ
        self._server = spawn(_serve, settings)
        self._cluster = ClusterClient(self.variables)
        self._thread = threading.Thread(target=self._restart_now_and_then, name="restarts")
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the server and all jobs."""
        self._over.set()
        self._thread.join()
        send_signal(self._server, signal.SIGTERM)
        ends_within(self._server, 30)

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
        rng = random.Random(f"{self._seed}/restarts")
        while not self._over.wait(rng.uniform(*_RESTARTS)):
            send_signal(self._server, signal.SIGKILL)  # its jobs outlive it
            ends_within(self._server, 30)
            self._over.wait(rng.uniform(0.1, 2.0))
            self._server = spawn(_serve, self._settings)
            self.restarts += 1
