"""A demo as a command: its options, its exclusive directory, its errors, and its end.

In a terminal, everything stays up after the runs until Ctrl-C. Without a terminal, or with KEEP=0 in the environment,
everything is stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from harness.errors import RunFailed, ServiceFailed
from harness.processes import kill_descendants

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Outcome:
    """The result of a demo.

    :param report: what `--json` prints
    :param instructions: the addresses that a user can open while everything stays up
    """

    report: dict[str, object]
    instructions: str


Demo = Callable[[Path, Console], AbstractContextManager[Outcome]]


def run_command(demo: Demo, program: str, description: str | None, home: Path) -> int:
    """Run a demo as a command.

    :param demo: starts everything in a directory, runs the examples, and stops everything at its exit
    :param program: the name of the command
    :param description: the text of `--help`
    :param home: the directory of all state, unless the command line names another one
    :returns: the exit code, 0 if all runs succeeded
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--home", type=Path, default=home, help="the directory of all state (replaced)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON on standard output at the end")
    arguments = parser.parse_args()
    chosen: Path = arguments.home.absolute()
    keep = os.environ.get("KEEP", "0" if arguments.json or not sys.stdout.isatty() else "1") != "0"
    console = Console(stderr=arguments.json)

    for number in SIGNALS:
        signal.signal(number, stop)
    up = False
    try:
        with exclusive_directory(chosen), demo(chosen / "latest", console) as outcome:
            if arguments.json:
                print(json.dumps(outcome.report), flush=True)
            if keep:
                up = True
                console.print(outcome.instructions, soft_wrap=True, highlight=False, markup=False)
                signal.pause()
    except Stopped as stopped:
        console.print("Everything has stopped.")
        return 0 if up else 128 + stopped.signal
    except (RunFailed, ServiceFailed, AlreadyRunning) as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 1
    finally:
        kill_descendants()  # a signal can come while a service starts
    return 0


class Stopped(BaseException):
    """A signal asks the demo to stop."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def stop(number: int, frame: FrameType | None) -> None:
    """Stop everything; further signals are ignored."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    print("Stopping ...", file=sys.stderr, flush=True)
    raise Stopped(number)


class AlreadyRunning(Exception):
    """Another demo uses the same directory."""


@contextlib.contextmanager
def exclusive_directory(home: Path) -> Iterator[None]:
    """Lock the directory and remove what the last demo left in it.

    :raises AlreadyRunning: another demo runs in it
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another demo runs in {home}: stop it first, or choose another --home") from None
        shutil.rmtree(home / "latest", ignore_errors=True)
        yield
