"""The system under test: Airflow's components, the embedded FirecREST, and the gateway between them."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import time
from datetime import datetime
from functools import partial
from itertools import product
from pathlib import Path

import psutil

from harness.airflow.api import AirflowAPI
from harness.airflow.deployment import AirflowDeployment
from harness.firecrest import FirecRESTServer
from harness.ports import free_port
from harness.postgresql import PostgreSQL
from harness.service import wait_until
from harness.service_group import ServiceGroup
from harness.slurm import Slurm
from tests.chaos.cluster import ClusterClient
from tests.chaos.component import Component, EventLog, send_signal, session_members
from tests.chaos.gateway import Gateway
from tests.chaos.plan import dag_id

POLL_INTERVAL = 2.0
# Seconds after which a finished task's claims may go. A worker is paused for at most 30 s, a submission held for 25 s.
SETTLED_AFTER = 75.0
_PLUGIN = f"""
from airflow_provider_firecrest.cancellation import claim_remover
from firecrest_core import lifecycle

claim_remover.INTERVAL = 5.0
lifecycle.SETTLED_AFTER = {SETTLED_AFTER}
"""
CORES = 64  # the jobs only sleep

# By default, Airflow notices a dead or disconnected component after minutes; here after seconds.
SHORT_TIMEOUTS = {
    "AIRFLOW__CORE__PARALLELISM": "16",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "4",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "40",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
}


class Testbed(ServiceGroup):
    """An Airflow, a gateway and an embedded FirecREST; a context manager.

    `log` holds what happened to the components, with its time.

    :param home: a directory that does not exist yet; for Slurm at most 60 characters long, since it holds sockets
    :param scheduler: what runs the jobs, `process` or `slurm`
    :param sabotage: submit without a claim, to check that violations are found
    """

    def __init__(self, home: Path, *, scheduler: str = "process", sabotage: bool = False) -> None:
        self.home = home
        self._scheduler = scheduler
        self.results = home / "results"
        self.log: EventLog = []
        self._sabotage = sabotage
        super().__init__()

    def _start(self) -> None:
        self.results.mkdir(parents=True)
        dags = self.home / "dags"
        dags.mkdir()
        shutil.copyfile(Path(__file__).with_name("dags.py"), dags / "kill_matrix.py")
        plugins = self.home / "plugins"
        plugins.mkdir()
        (plugins / "settle_soon.py").write_text(_PLUGIN)
        database = self._stack.enter_context(PostgreSQL(self.home / "postgresql.log"))
        port = free_port()
        slurm = self._stack.enter_context(Slurm(self.home / "slurm", CORES)) if self._scheduler == "slurm" else None
        options = ["--port", str(port)]
        if slurm is None:
            options += ["--cores", str(CORES)]
        firecrest = self._stack.enter_context(FirecRESTServer(self.home / "cluster", *options, slurm=slurm))
        self.gateway = self._stack.enter_context(Gateway(port))
        variables = SHORT_TIMEOUTS | {
            "EXAMPLES_FOLDER": str(self.results),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
            "KILL_MATRIX_POLL_INTERVAL": str(POLL_INTERVAL),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url,
        }
        if self._sabotage:
            variables["KILL_MATRIX_SABOTAGE"] = "1"
        airflow = self._stack.enter_context(AirflowDeployment(self.home / "airflow", dags, variables))
        self._stack.callback(self._prepare_to_stop)
        airflow.migrate()
        firecrest.wait()
        self.folder = Path(firecrest.variables["FIRECREST_WORKDIR"])
        airflow.environment["FIRECREST_WORKDIR"] = str(self.folder)
        self.api: AirflowAPI = airflow.start()
        self.logs = airflow.home / "logs"
        connection = firecrest.connection()
        for fields in (connection, connection["extra"]):
            assert isinstance(fields, dict)
            for name, value in fields.items():
                if isinstance(value, str):
                    fields[name] = value.replace(f"http://127.0.0.1:{port}", self.gateway.url)
        self.api.create_connection("firecrest_default", connection)
        self.cluster = self._stack.enter_context(ClusterClient(firecrest.variables))
        self.scheduler, self.triggerer = (
            Component(name, airflow.service(name), partial(self._heartbeat, name), self.log)
            for name in ("scheduler", "triggerer")
        )
        self.server = Component("server", firecrest.service, lambda: time.time() if _listens(port) else 0.0, self.log)
        self.components = {"scheduler": self.scheduler, "triggerer": self.triggerer, "server": self.server}
        names = {dag_id(*variant) for variant in product((True, False), repeat=3)}
        wait_until(lambda: names <= self.api.dags(), "the DAGs are parsed", services=airflow.services)

    def _heartbeat(self, component: str) -> float:
        with contextlib.suppress(Exception):
            health = self.api.request("GET", "/monitor/health")[component]
            return datetime.fromisoformat(health[f"latest_{component}_heartbeat"]).timestamp()
        return 0.0

    def worker(self, ti_id: str) -> tuple[list[psutil.Process], list[psutil.Process]]:
        """Return the processes of a task instance: those that supervise it, and those that run it."""
        supervisors: list[psutil.Process] = []
        runners: list[psutil.Process] = []
        for process in session_members(self.scheduler.sessions):
            with contextlib.suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if ti_id in title:
                    (supervisors if "LocalExecutor" in title else runners).append(process)
        for supervisor in supervisors:
            with contextlib.suppress(psutil.Error):
                runners += [child for child in supervisor.children() if child not in runners]
        return supervisors, runners

    def kill_idle_workers(self) -> None:
        """Kill the idle workers of schedulers that were killed: they wait forever for their dead parent."""
        for process in session_members(self.scheduler.sessions - {self.scheduler.service.pid}):
            with contextlib.suppress(psutil.Error):
                if "<idle>" in " ".join(process.cmdline()):
                    process.kill()

    def downtimes(self, start: float, *names: str) -> list[tuple[float, float]]:
        """Return the downtimes that ended after a time, sorted. Those of the gateway are included.

        :param start: the Unix time
        :param names: the components; all unless given
        """
        now = time.time()
        components = [self.components[name] for name in names or self.components]
        spans = [span for component in components for span in component.downtimes_until(now)]
        return sorted(span for span in [*spans, *self.gateway.outages] if span[1] > start)

    def _prepare_to_stop(self) -> None:
        """Kill what earlier processes of the components left, and resume what is paused."""
        for component in (self.scheduler, self.triggerer):
            send_signal(session_members(component.sessions - {component.service.pid}), signal.SIGKILL)
            send_signal(session_members({component.service.pid}), signal.SIGCONT)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
