"""What is tormented: Airflow's components, the embedded server, and the way between them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import psutil

from demo.assembly import Assembly
from demo.cluster import Cluster
from demo.deployment import Deployment, free_port
from demo.rest import AirflowAPI
from demo.services import Service, wait_until
from demo.slurm import Slurm
from kill_matrix.database import Database
from kill_matrix.gateway import Gateway
from kill_matrix.jobs import Jobs
from kill_matrix.plan import dag_id

POLL_INTERVAL = 2.0
CORES = 64  # its jobs sleep

#: What happened to all cases, and when.
Diary = list[tuple[float, str]]

# A machine that is cut off is noticed in minutes by default, which are seconds here.
IMPATIENCE = {
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


class Component:
    """One program that is killed, stopped and paused, and started again.

    `away` are the times, from and to, in which it could do nothing.

    Parameters:
        name: what it is called.
        service: its process.
        beat: when it last said that it is well, in seconds since the epoch.
        diary: where it is written down what happened to it, and when.
    """

    def __init__(self, name: str, service: Service, beat: Callable[[], float], diary: Diary) -> None:
        self.name = name
        self.service = service
        self._diary = diary
        self.away: list[tuple[float, float]] = []
        self.sessions = {service.pid}
        self._beat = beat
        self._busy = threading.Lock()
        self._pauses = 0
        self._left = 0.0

    def kill(self, seconds: float, *, whole: bool) -> None:
        """Kill it, with its children or alone, and start it again some seconds later; returns when it is gone."""
        if not self._leave("was killed with its children" if whole else "was killed"):
            return
        members = list(session({self.service.pid})) if whole else []
        os.kill(self.service.pid, signal.SIGKILL)
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._return_in(seconds)

    def stop(self, seconds: float) -> None:
        """Stop it as an init system does: a SIGTERM to all of its processes, then a SIGKILL."""
        if not self._leave("was stopped"):
            return
        members = list(session({self.service.pid}))
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
                member.resume()
        _, left = psutil.wait_procs(members, timeout=5)
        for member in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._return_in(seconds)

    def pause(self) -> None:
        """Let it stand still until as many wishes to go on have come as wishes to pause."""
        with self._busy:
            if not self._pauses and not self.up:  # it is dead
                return
            self._pauses += 1
            if self._pauses == 1:
                self._left = time.time()
                self.note("was paused")
                _signal(session({self.service.pid}), signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        with self._busy:
            if not self._pauses:  # it was killed meanwhile
                return
            self._pauses -= 1
            if self._pauses == 0:
                _signal(session({self.service.pid}), signal.SIGCONT)
                self.away.append((self._left, time.time()))
                self._left = 0.0
                self.note("goes on")

    def revive(self) -> bool:
        """Start it again if it has ended by itself, as its init system would."""
        if self.service.exit_code is None or not self._leave("had ended by itself"):
            return False
        self._return_in(1.0)
        return True

    @property
    def up(self) -> bool:
        """Whether it is neither dead nor paused."""
        return not self._left and self.service.exit_code is None

    def since(self, now: float) -> list[tuple[float, float]]:
        """The times in which it was away; `now` for the end of one that lasts."""
        left = self._left
        return [*self.away, *([(left, now)] if left else [])]

    def note(self, text: str) -> None:
        """Write something down about it."""
        self._diary.append((time.time(), f"--- {self.name} {text}"))

    def _leave(self, how: str) -> bool:
        with self._busy:
            if self._left and not self._pauses:  # it is dead already
                return False
            self.note(how)
            self._left = self._left or time.time()
            self._pauses = 0
            return True

    def _return_in(self, seconds: float) -> None:
        threading.Thread(target=self._return, args=(seconds,), daemon=True).start()

    def _return(self, seconds: float) -> None:
        while self.service.exit_code is None:
            time.sleep(0.02)
        time.sleep(seconds)
        started = time.time()
        with self._busy:
            self.service.start()
            self.sessions.add(self.service.pid)
        while self._beat() < started:
            time.sleep(0.2)
        with self._busy:
            self.away.append((self._left, time.time()))
            self._left = 0.0
            self.note("is back")


class Site(Assembly):
    """An Airflow, a gateway and an embedded FirecREST; a context manager.

    Parameters:
        home: a directory that does not exist yet; for Slurm at most 60 characters long, since it holds sockets.
        scheduler: what runs the jobs, `process` or `slurm`.
        sabotage: submit without a claim, to see whether anybody notices.
    """

    def __init__(self, home: Path, *, scheduler: str = "process", sabotage: bool = False) -> None:
        self.home = home
        self._scheduler = scheduler
        self.results = home / "results"
        self.diary: Diary = []
        self._sabotage = sabotage
        super().__init__()

    def _start(self) -> None:
        self.results.mkdir(parents=True)
        dags = self.home / "dags"
        dags.mkdir()
        shutil.copyfile(Path(__file__).with_name("dags.py"), dags / "kill_matrix.py")
        database = self._stack.enter_context(Database(self.home / "postgresql.log"))
        port = free_port()
        slurm = self._stack.enter_context(Slurm(self.home / "slurm", CORES)) if self._scheduler == "slurm" else None
        options = ["--port", str(port)]
        if slurm is None:
            options += ["--cores", str(CORES)]
        cluster = self._stack.enter_context(Cluster(self.home / "cluster", *options, slurm=slurm))
        self.gateway = self._stack.enter_context(Gateway(port))
        variables = IMPATIENCE | {"EXAMPLES_FOLDER": str(self.results), "KILL_MATRIX_POLL_INTERVAL": str(POLL_INTERVAL)}
        variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = database.url
        if self._sabotage:
            variables["KILL_MATRIX_SABOTAGE"] = "1"
        airflow = self._stack.enter_context(Deployment(self.home / "airflow", dags, variables))
        self._stack.callback(self._leave_nobody)
        airflow.migrate()
        cluster.wait()
        self.folder = Path(cluster.variables["FIRECREST_WORKDIR"])
        airflow.environment["FIRECREST_WORKDIR"] = str(self.folder)
        self.api: AirflowAPI = airflow.start()
        self.logs = airflow.home / "logs"
        connection = cluster.connection()
        for fields in (connection, connection["extra"]):
            assert isinstance(fields, dict)
            for name, value in fields.items():
                if isinstance(value, str):
                    fields[name] = value.replace(f"http://127.0.0.1:{port}", self.gateway.url)
        self.api.create_connection("firecrest_default", connection)
        self.jobs = self._stack.enter_context(Jobs(cluster.variables))
        self.scheduler, self.triggerer = (
            Component(name, airflow.service(name), partial(self._heartbeat, name), self.diary)
            for name in ("scheduler", "triggerer")
        )
        self.server = Component("server", cluster.service, lambda: time.time() if _listens(port) else 0.0, self.diary)
        self.components = {"scheduler": self.scheduler, "triggerer": self.triggerer, "server": self.server}
        names = {dag_id(*variant) for variant in _variants()}
        wait_until(lambda: names <= self.api.dags(), "the DAGs are parsed", services=airflow.services)

    def _heartbeat(self, component: str) -> float:
        with contextlib.suppress(Exception):
            health = self.api.request("GET", "/monitor/health")[component]
            return datetime.fromisoformat(health[f"latest_{component}_heartbeat"]).timestamp()
        return 0.0

    def worker(self, ti_id: str) -> tuple[list[psutil.Process], list[psutil.Process]]:
        """The processes of a task instance: who supervises it, and who runs it."""
        supervisors: list[psutil.Process] = []
        runners: list[psutil.Process] = []
        for process in session(self.scheduler.sessions):
            with contextlib.suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if ti_id in title:
                    (supervisors if "LocalExecutor" in title else runners).append(process)
        for supervisor in supervisors:
            with contextlib.suppress(psutil.Error):
                runners += [child for child in supervisor.children() if child not in runners]
        return supervisors, runners

    def tidy(self) -> None:
        """End idle workers of schedulers that were killed: they wait for ever for one who is dead."""
        for process in session(self.scheduler.sessions - {self.scheduler.service.pid}):
            with contextlib.suppress(psutil.Error):
                if "<idle>" in " ".join(process.cmdline()):
                    process.kill()

    def away(self, start: float, *names: str) -> list[tuple[float, float]]:
        """When one of these components (all unless named), or the way to the server, was away since then, sorted."""
        now = time.time()
        components = [self.components[name] for name in names or self.components]
        spans = [span for component in components for span in component.since(now)]
        return sorted(span for span in [*spans, *self.gateway.away] if span[1] > start)

    def _leave_nobody(self) -> None:
        for component in (self.scheduler, self.triggerer):
            _signal(session(component.sessions - {component.service.pid}), signal.SIGKILL)
            _signal(session({component.service.pid}), signal.SIGCONT)


def session(leaders: Collection[int]) -> Iterator[psutil.Process]:
    """Everyone in the sessions of these processes."""
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) in leaders:
                yield process


def _signal(processes: Iterator[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _variants() -> list[tuple[bool, bool, bool]]:
    return [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)]
