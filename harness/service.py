"""A program that runs in the background with its own log, and leaves no process when it is stopped."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from harness.errors import ServiceFailed
from harness.processes import kill, related_processes


class Service:
    """One program in its own session, so that Ctrl-C in the terminal does not reach it; a context manager.

    :param name: its name in messages
    :param command: program and arguments
    :param environment: its whole environment
    :param log: file for its standard error, and for its standard output unless `stdout` is given
    :param stdout: file for its standard output
    :param directory: its working directory; the current one unless given
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        stdout: Path | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self._stdout = stdout or log
        self._directory = directory
        self.start()

    def start(self) -> None:
        """Start the program, again if it has ended."""
        with self.log.open("ab") as stderr, self._stdout.open("ab") as stdout:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
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
        """Its exit code; None while it runs."""
        return self._process.poll()

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def stop(self, grace: float = 5) -> None:
        """Interrupt it, then kill what is left: itself, its descendants and all processes in their sessions.

        Interrupting the parent is not enough: Airflow's services leave children if they are terminated too fast, and
        jobs of the embedded FirecREST outlive their server by design.

        :param grace: seconds that it has to end by itself
        """
        leaders = {self._process.pid}
        members = related_processes(leaders)
        if self._process.poll() is None:
            self.interrupt()
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        while members := related_processes(leaders, members):
            kill(members)


def wait_until(condition: Callable[[], bool], what: str, *, services: Sequence[Service], timeout: float = 180) -> None:
    """Wait until the condition holds.

    :param what: the condition in words, for the message
    :param services: services that have to stay alive meanwhile
    :raises ServiceFailed: a service ended (the message holds the last lines of its log), or the time is up
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
