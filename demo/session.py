"""What the demos have in common: each is alone in its directory, says what went wrong, and ends without a trace.

In a terminal everything stays up afterwards, until Ctrl-C; without one, or with KEEP=0 in the environment, everything
is stopped.
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

from demo.runs import RunFailed
from demo.services import ServiceFailed, end_children

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Outcome:
    """What a demo found.

    :param report: for a program: one line of JSON
    :param farewell: for a person: where to look while everything stays up
    """

    report: dict[str, object]
    farewell: str


Play = Callable[[Path, Console], AbstractContextManager[Outcome]]


def perform(play: Play, program: str, description: str | None, home: Path) -> int:
    """Run a demo as a command; the exit code is 0 when everything was successful.

    :param play: starts everything in a directory, runs the examples, and stops everything when it is left
    :param home: where everything is kept, unless the command line names another directory
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--home", type=Path, default=home, help="where everything is kept (made anew)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON on standard output")
    arguments = parser.parse_args()
    chosen: Path = arguments.home.absolute()
    keep = os.environ.get("KEEP", "0" if arguments.json or not sys.stdout.isatty() else "1") != "0"
    console = Console(stderr=arguments.json)

    for number in ENDS:
        signal.signal(number, stop)
    up = False
    try:
        with alone(chosen), play(chosen / "latest", console) as outcome:
            if arguments.json:
                print(json.dumps(outcome.report), flush=True)
            if keep:
                up = True
                console.print(outcome.farewell, soft_wrap=True, highlight=False, markup=False)
                signal.pause()
    except Stopped as wish:
        console.print("Everything has stopped.")
        return 0 if up else 128 + wish.signal
    except (RunFailed, ServiceFailed, AlreadyRunning) as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 1
    finally:
        end_children()  # one that was just being started when a signal came
    return 0


class Stopped(BaseException):
    """Somebody asks us to end."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def stop(number: int, frame: FrameType | None) -> None:
    """End everything; a second Ctrl-C does not interrupt that."""
    for each in ENDS:
        signal.signal(each, signal.SIG_IGN)
    print("Stopping ...", file=sys.stderr, flush=True)
    raise Stopped(number)


class AlreadyRunning(Exception):
    """Another demo uses the same directory."""


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """Make the directory anew, unless another demo runs in it."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another demo runs in {home}: stop it first, or choose another --home") from None
        shutil.rmtree(home / "latest", ignore_errors=True)
        yield
