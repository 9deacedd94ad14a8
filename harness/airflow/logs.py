"""Airflow's log files of tasks and triggers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path


def log_entries(file: Path) -> Iterator[tuple[float, str]]:
    """Read the Unix time and the text of each entry in a log file of a task or trigger."""
    for line in file.read_text(errors="replace").splitlines():
        with suppress(ValueError, KeyError, TypeError):  # output of another program, or an incomplete line
            entry = json.loads(line)
            yield datetime.fromisoformat(entry["timestamp"]).timestamp(), entry["event"]
