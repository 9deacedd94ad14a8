"""A program that runs beside us, with a log of its own, and leaves no process behind when it is stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil


class ServiceFailed(Exception):
    """A service ended by itself, or was not ready in time."""


class Service:
    """One program in a session of its own, so that Ctrl-C in the terminal reaches us and not it.

    :param name: what it is called in messages
    :param command: program and arguments
    :param environment: its whole environment
    :param log: file for what it says on standard error, and on standard output without `output`
    :param output: file for what it says on standard output
    :param directory: where it runs; here, unless given
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        output: Path | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self._output = output or log
        self._directory = directory
        self.start()

    def start(self) -> None:
        """Start the program; once more, when it has ended."""
        with self.log.open("ab") as errors, self._output.open("ab") as says:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=says,
                stderr=errors,
                start_new_session=True,
            )

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The id of its process and of its session."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def ask_to_stop(self) -> None:
        """Ask it to stop, as Ctrl-C would."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def crash(self) -> None:
        """Kill it, itself first, and its descendants with it."""
        members = family({self._process.pid})
        self._process.kill()
        self._process.wait()
        kill(members)

    def stop(self, grace: float = 5) -> None:
        """Ask it to stop, then end whatever is left of it: its descendants and everyone in their sessions.

        Airflow's services leave children when they are terminated in a hurry, and a job of the embedded
        FirecREST is meant to outlive its server, so asking the parent is not enough.
        """
        leaders = {self._process.pid}
        members = family(leaders)
        if self._process.poll() is None:
            self.ask_to_stop()
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        while members := family(leaders, members):
            kill(members)


def family(leaders: Collection[int], known: Collection[psutil.Process] = ()) -> set[psutil.Process]:
    """Everyone alive who descends from one of the processes, or shares a session with one of them."""
    sessions = {*leaders, *(process.pid for process in known)}
    members = set(known)
    for process in psutil.process_iter():
        try:
            if process.pid in sessions or os.getsid(process.pid) in sessions:
                members.add(process)
        except (ProcessLookupError, PermissionError):
            continue
    for process in list(members):
        try:
            members.update(process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    return {process for process in members if _alive(process)}


def kill(processes: Collection[psutil.Process]) -> None:
    """Kill them and wait a moment until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=1)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_children() -> None:
    """End all processes that descend from this one."""
    while children := [child for child in psutil.Process().children(recursive=True) if _alive(child)]:
        kill(children)


def surroundings() -> dict[str, str]:
    """The environment without what belongs to others of our kind, and with no proxy before ourselves."""
    others = ("AIRFLOW", "PREFECT", "FIRECREST", "AUTH_TOKEN")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    for name in ("no_proxy", "NO_PROXY"):
        environment[name] = ",".join(filter(None, [environment.get(name), "127.0.0.1", "localhost"]))
    return environment | {"PYTHONUNBUFFERED": "1"}


def wait_until(condition: Callable[[], bool], what: str, *, services: Sequence[Service], timeout: float = 180) -> None:
    """Wait until the condition holds; give up as soon as one of the services ends.

    :raises ServiceFailed: with the last lines of that service's log
    """
    deadline = time.monotonic() + timeout
    while not condition():
        for service in services:
            if service.exit_code is not None:
                raise ServiceFailed(
                    f"{service.name} ended with exit code {service.exit_code} while waiting until {what}; "
                    f"its log {service.log} ends with\n{service.tail()}"
                )
        if time.monotonic() > deadline:
            logs = ", ".join(str(service.log) for service in services)
            raise ServiceFailed(f"after {timeout:g} s still waiting until {what}; see {logs}")
        time.sleep(0.2)
