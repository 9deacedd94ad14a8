"""A program of the testbed that is killed, stopped and paused, and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator

import psutil

from harness.service import Service

#: The Unix times and descriptions of what happened to all cases at once.
EventLog = list[tuple[float, str]]


class Component:
    """One program that is killed, stopped and paused, and started again.

    `downtimes` are the Unix times, from and to, in which it was down or paused. `sessions` are the ids of all sessions
    that its processes have had.

    :param name: its name in the log
    :param service: its process
    :param heartbeat: returns the Unix time of its last heartbeat
    :param log: receives what happens to it
    """

    def __init__(self, name: str, service: Service, heartbeat: Callable[[], float], log: EventLog) -> None:
        self.name = name
        self.service = service
        self.downtimes: list[tuple[float, float]] = []
        self.sessions = {service.pid}
        self._log = log
        self._heartbeat = heartbeat
        self._lock = threading.Lock()
        self._pauses = 0
        self._down_since = 0.0

    def kill(self, seconds: float, *, with_children: bool) -> None:
        """Kill it and wait until it is dead. It starts again some seconds later."""
        if not self._go_down("was killed with its children" if with_children else "was killed"):
            return
        members = list(session_members({self.service.pid})) if with_children else []
        os.kill(self.service.pid, signal.SIGKILL)
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._start_after(seconds)

    def stop(self, seconds: float) -> None:
        """Stop it as an init system does, with SIGTERM to all of its processes and then SIGKILL; it starts again."""
        if not self._go_down("was stopped"):
            return
        members = list(session_members({self.service.pid}))
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
                member.resume()
        _, alive = psutil.wait_procs(members, timeout=5)
        for member in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._start_after(seconds)

    def pause(self) -> None:
        """Suspend it until `resume` has been called as often as `pause`."""
        with self._lock:
            if not self._pauses and not self.is_up:  # it is dead
                return
            self._pauses += 1
            if self._pauses == 1:
                self._down_since = time.time()
                self.record("was paused")
                send_signal(session_members({self.service.pid}), signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        with self._lock:
            if not self._pauses:  # it was killed during the pause
                return
            self._pauses -= 1
            if self._pauses == 0:
                send_signal(session_members({self.service.pid}), signal.SIGCONT)
                self.downtimes.append((self._down_since, time.time()))
                self._down_since = 0.0
                self.record("was resumed")

    def restart_if_dead(self) -> bool:
        """Start it again if it has ended by itself, as an init system does.

        :returns: whether it had ended by itself
        """
        if self.service.exit_code is None or not self._go_down("had ended by itself"):
            return False
        self._start_after(1.0)
        return True

    @property
    def is_up(self) -> bool:
        """Whether it is neither dead nor paused."""
        return not self._down_since and self.service.exit_code is None

    def downtimes_until(self, now: float) -> list[tuple[float, float]]:
        """Return its downtimes; one that lasts ends now."""
        down_since = self._down_since
        return [*self.downtimes, *([(down_since, now)] if down_since else [])]

    def record(self, text: str) -> None:
        """Write something about it into the log."""
        self._log.append((time.time(), f"--- {self.name} {text}"))

    def _go_down(self, how: str) -> bool:
        with self._lock:
            if self._down_since and not self._pauses:  # it is dead already
                return False
            self.record(how)
            self._down_since = self._down_since or time.time()
            self._pauses = 0
            return True

    def _start_after(self, seconds: float) -> None:
        threading.Thread(target=self._start, args=(seconds,), daemon=True).start()

    def _start(self, delay: float) -> None:
        while self.service.exit_code is None:
            time.sleep(0.02)
        time.sleep(delay)
        started = time.time()
        with self._lock:
            self.service.start()
            self.sessions.add(self.service.pid)
        while self._heartbeat() < started:
            time.sleep(0.2)
        with self._lock:
            self.downtimes.append((self._down_since, time.time()))
            self._down_since = 0.0
            self.record("is back")


def session_members(leaders: Collection[int]) -> Iterator[psutil.Process]:
    """Find all processes in the sessions of these leaders."""
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) in leaders:
                yield process


def send_signal(processes: Iterable[psutil.Process], number: int) -> None:
    """Send a signal to all of the processes that still exist."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
