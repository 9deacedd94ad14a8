"""Runs Slurm's commands."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from firecrest_local.errors import ApiError, CommandTimeout, OutputTooLarge, SchedulerError

#: Bytes of a command's output that the real server reads.
BUFFER = 5 * 1024 * 1024


@dataclass(frozen=True)
class CommandResult:
    """The end of a command.

    :param stdout: what it printed on standard output.
    :param stderr: what it printed on standard error.
    :param exit_status: its exit status.
    """

    stdout: str
    stderr: str
    exit_status: int

    def error(self) -> SchedulerError:
        """Return the error of a command that failed, in the command's own words."""
        return SchedulerError(*self.stderr.splitlines(), exit_status=self.exit_status)


def run_command(
    command: Sequence[str], environment: Mapping[str, str], *, timeout: float, cwd: Path, stdin: str = ""
) -> CommandResult:
    """Run a command to its end.

    :param command: program and arguments.
    :param environment: its whole environment.
    :param timeout: seconds after which it is killed together with the processes that it started.
    :param cwd: where it runs.
    :param stdin: text on its standard input.
    :raises CommandTimeout: it took longer.
    :raises OutputTooLarge: it printed more than the real server reads.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError:
        # On a cluster a shell runs the command, so this is a shell's message.
        return CommandResult("", f"{command[0]}: command not found", 127)
    except OSError as error:
        # For example more arguments than a command can have.
        return CommandResult("", f"{command[0]}: {error.strerror}", 126)
    try:
        stdout, stderr = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise CommandTimeout from None
    if max(len(stdout), len(stderr)) >= BUFFER:
        raise OutputTooLarge
    return CommandResult(stdout, stderr, process.returncode)


def slurm_answers() -> bool:
    """Return whether this machine has a Slurm whose controller answers."""
    try:
        return run_command(["sinfo", "--noheader"], os.environ, timeout=10, cwd=Path("/")).exit_status == 0
    except ApiError:
        return False
