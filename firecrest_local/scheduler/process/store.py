"""Keeps jobs on disk, in one SQLite file that is written at every change."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from firecrest_local.scheduler.jobs.job import Job


class JobStore:
    """Keeps jobs over restarts. The caller makes sure that only one thread at a time uses it.

    :param path: the database file; made when missing.
    """

    def __init__(self, path: Path) -> None:
        # SQLite makes the files beside it with the same permissions.
        path.touch(mode=0o600)
        path.chmod(0o600)
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        # A killed server loses nothing. Only a power failure might lose the last second.
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, job TEXT NOT NULL)")

    def load(self) -> list[Job]:
        """Read all jobs, oldest first."""
        rows = self._connection.execute("SELECT job FROM jobs ORDER BY id")
        return [Job.from_json(text) for (text,) in rows]

    def save(self, jobs: Iterable[Job]) -> None:
        """Write all of the jobs, or none."""
        rows = [(job.id, job.to_json()) for job in jobs]
        with self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT OR REPLACE INTO jobs VALUES (?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
