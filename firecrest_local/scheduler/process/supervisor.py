"""The process that supervises one job.

It runs in its own session, so that it outlives the server, and records how the job ended. It is started as a script
(`supervisor.py JOB_DIRECTORY`) and imports only the standard library. It inherits the lock of its directory and holds
it as long as it lives. A restarted server sees by this lock that the job is still running.

SIGTERM cancels the job. A job that holds more memory than its limit loses its largest process, as by the kernel's OOM
killer under Slurm, and counts as out of memory at its end.
"""

# pathlib would double the time that a supervisor takes to start.
# ruff: noqa: PTH105, PTH118, PTH123, PTH208

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

#: Slurm's "signal" of a job that could not be launched.
LAUNCH_FAILURE = 53
#: Slurm's "signal" of a job that ran out of memory.
OUT_OF_MEMORY = 125
#: Largest interval between two alarms, in seconds. If a SIGTERM arrives just before a wait begins, the next alarm
#: interrupts that wait.
TICK = 1.0


def open_private(path: str, flags: int) -> int:
    """Open a file that only its owner may use. An `opener` for `open`."""
    return os.open(path, flags, 0o600)


def write_atomically(path: str, data: dict[str, Any]) -> None:
    """Write a JSON file that is either complete or missing."""
    draft = f"{path}.{os.getpid()}"
    with open(draft, "w", opener=open_private) as file:
        json.dump(data, file)
    os.replace(draft, path)


def resident_memory(session: int) -> Iterator[tuple[int, int]]:
    """Read the resident memory of a session's processes from `/proc`; nothing where there is no such directory.

    :returns: process id and bytes of each.
    """
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    for name in filter(str.isdigit, names):
        # A process may end meanwhile.
        with suppress(OSError):
            with open(f"/proc/{name}/stat", "rb") as file:
                # The command's name is in parentheses and can hold anything.
                fields = file.read().rpartition(b")")[2].split()
            if int(fields[3]) == session:
                yield int(name), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


class Supervisor:
    """Runs the job of a directory's `spec.json` and writes its `exit.json`.

    :param directory: the job's directory.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        with open(os.path.join(directory, "spec.json")) as file:
            self._spec: dict[str, Any] = json.load(file)
        self._process: subprocess.Popen[bytes] | None = None
        self._cause: str | None = None
        self._stages: list[tuple[float, str]] = []
        self._oom_kills = 0

    def run(self) -> None:
        """Run the job to its end."""
        signal.signal(signal.SIGTERM, self._on_cancel)
        signal.signal(signal.SIGALRM, self._on_alarm)
        started = time.time()
        write_atomically(os.path.join(self._directory, "started.json"), {"pid": os.getpid(), "start": started})
        exit_code, number = self._run_script()
        self._kill(signal.SIGKILL)
        write_atomically(
            os.path.join(self._directory, "exit.json"),
            {
                "exit_code": exit_code,
                "signal": number,
                "cause": self._cause,
                "start": started,
                "end": time.time(),
            },
        )

    def _run_script(self) -> tuple[int, int]:
        spec = self._spec
        try:
            if spec["unreachable"]:
                raise FileNotFoundError(spec["unreachable"])
            os.chdir(spec["working_dir"])
            mode = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if spec["append"] else os.O_TRUNC)
            stdin = os.open(spec["standard_input"], os.O_RDONLY)
            stdout = os.open(spec["standard_output"], mode, 0o666)
            same = spec["standard_error"] == spec["standard_output"]
            stderr = stdout if same else os.open(spec["standard_error"], mode, 0o666)
        except OSError:
            return 0, LAUNCH_FAILURE
        script = os.path.join(self._directory, "slurm_script")
        with open(script, errors="surrogateescape") as file:
            interpreter, _, argument = file.readline()[2:].strip().partition(" ")
        command = [interpreter, *([argument.strip()] if argument.strip() else []), script]
        self._set_stages(time.monotonic())
        try:
            self._process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=spec["environment"],
                start_new_session=True,
            )
        except OSError as error:
            text = f"slurmstepd: error: execve(): {shlex.quote(interpreter)}: {error.strerror}\n"
            os.write(stderr, text.encode())
            return (error.errno or 1), 0
        if self._cause is not None:
            self._on_cancel(signal.SIGTERM, None)
        status = self._process.wait()
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._oom_kills and self._cause is None:
            self._cause = "out_of_memory"
            events = "event" if self._oom_kills == 1 else "events"
            text = (
                f"slurmstepd: error: Detected {self._oom_kills} oom_kill {events} in StepId={spec['step_id']}. "
                "Some of the step tasks have been OOM Killed.\n"
            )
            os.lseek(stderr, 0, os.SEEK_END)
            os.write(stderr, text.encode())
            return 0, OUT_OF_MEMORY
        return (status, 0) if status >= 0 else (0, -status)

    def _set_stages(self, now: float) -> None:
        limit = self._spec["limit"]
        if limit is not None:
            self._stages = [(now + limit, "timeout"), (now + limit + self._spec["kill_wait"], "kill")]
            if self._spec["warning_signal"] is not None:
                self._stages.insert(0, (now + max(limit - self._spec["warning_seconds"], 0), "warn"))
        self._set_alarm()

    def _set_alarm(self) -> None:
        next_stage = self._stages[0][0] - time.monotonic() if self._stages else TICK
        signal.setitimer(signal.ITIMER_REAL, min(max(next_stage, 0.001), TICK), TICK)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        while self._stages and self._stages[0][0] <= time.monotonic():
            _, stage = self._stages.pop(0)
            if stage == "warn":
                self._warn()
            elif stage == "timeout":
                self._cause = "timeout"
                self._kill(signal.SIGTERM)
            else:
                self._kill(signal.SIGKILL)
        self._limit_memory()
        self._set_alarm()

    def _limit_memory(self) -> None:
        """Kill the largest process of a job that holds more than its memory. The others continue."""
        limit = self._spec["memory"]
        if limit is None or self._process is None:
            return
        held = dict(resident_memory(self._process.pid))
        if sum(held.values()) > limit:
            self._oom_kills += 1
            with suppress(ProcessLookupError, PermissionError):
                os.kill(max(held, key=held.__getitem__), signal.SIGKILL)

    def _on_cancel(self, number: int, frame: FrameType | None) -> None:
        self._cause = self._cause or "cancelled"
        self._kill(signal.SIGTERM)
        self._stages = [(time.monotonic() + self._spec["kill_wait"], "kill")]
        self._set_alarm()

    def _warn(self) -> None:
        """Send the warning signal: with `B:` only to the batch script, otherwise only to the steps."""
        assert self._process is not None
        number = self._spec["warning_signal"]
        if self._spec["warn_batch"]:
            self._process.send_signal(number)
            return
        steps = os.path.join(self._directory, "steps")
        for name in os.listdir(steps):
            try:
                with open(os.path.join(steps, name)) as file:
                    step = json.load(file)
                if step["end"] is None:
                    os.kill(step["pid"], number)
            except (OSError, ValueError, KeyError):
                continue

    def _kill(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


if __name__ == "__main__":
    Supervisor(sys.argv[1]).run()
