"""A terminal in which a person pastes the blocks of a page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pytest

from harness.processes import kill, related_processes

_BLOCK = re.compile(r'^```bash title="(?P<title>[^"]+)"\n(?P<text>.*?)^```$', re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the blocks of a page that a person pastes, as (title of the terminal, text)."""
    return [(found["title"], found["text"]) for found in _BLOCK.finditer(page.read_text())]


def wait_until(condition: Callable[[], Any], what: str, terminals: list[Terminal], seconds: float = 600) -> None:
    """Wait until a condition holds; fail with what the terminals show."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline or any(one.exit_code is not None for one in terminals):
            shown = "\n\n".join(f"{one.name} shows\n{one.output()[-5000:]}" for one in terminals)
            pytest.fail(f"{what} has not happened.\n{shown}")
        time.sleep(0.2)


def exports(firecrest: Terminal) -> str:
    """Wait until `firecrest-local` is ready in a terminal, and return the lines that it has printed."""
    wait_until(
        lambda: "AIRFLOW_CONN_FIRECREST_DEFAULT=" in firecrest.printed(), "firecrest-local is ready", [firecrest]
    )
    return "\n".join(line for line in firecrest.printed().splitlines() if line.startswith("export "))


class Terminal:
    """One bash, which ends at the first command that fails; a context manager.

    :param name: its title on the page
    :param folder: an existing directory for what it shows
    :param environment: its variables
    """

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._stdout, self._stderr = (folder / f"{name}.{kind}" for kind in ("stdout", "stderr"))
        self._pasted = 0
        self._known: set[psutil.Process] = set()
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._bash = subprocess.Popen(
                ["bash", "-e"],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        self.interrupt()
        try:
            self._bash.wait(20)
        except subprocess.TimeoutExpired:
            self._bash.kill()
            self._bash.wait()
        while self._members():
            kill(self._members())

    def _members(self) -> set[psutil.Process]:
        self._known = related_processes({self._bash.pid}, self._known)
        return self._known

    @property
    def exit_code(self) -> int | None:
        """The status of a command that failed; None while nothing has."""
        return self._bash.poll()

    def output(self) -> str:
        """Return what it shows."""
        return self.printed() + self._stderr.read_text(errors="replace")

    def printed(self) -> str:
        """Return what its commands have written to standard output."""
        return self._stdout.read_text(errors="replace")

    def paste(self, text: str) -> None:
        """Paste a block and do not wait for its end, as of one that starts a server."""
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{text.rstrip()}\n".encode())
        self._bash.stdin.flush()

    def run(self, text: str) -> str:
        """Paste a block, wait until all of its commands have succeeded, and return what they printed."""
        self._pasted += 1
        begin, end = (f"---- block {self._pasted} {place} ----" for place in ("begins", "ends"))
        self.paste(f"echo '{begin}'\n{text.rstrip()}\necho '{end}'")
        wait_until(lambda: f"{end}\n" in self.printed(), f"the end of\n{text}", [self])
        return self.printed().partition(f"{begin}\n")[2].partition(f"{end}\n")[0]

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._members()
        if self._bash.poll() is None:
            os.killpg(self._bash.pid, signal.SIGINT)
