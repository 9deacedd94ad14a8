"""A PostgreSQL server for Airflow, because SQLite fails at random when several processes write at once."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness.environment import clean_environment
from harness.errors import ServiceFailed
from harness.ports import free_port
from harness.service import Service, wait_until

#: What a test needs to use it, in words.
REQUIREMENT = "a PostgreSQL for Airflow: apt-get install postgresql, pip install psycopg2-binary asyncpg"
USER = "airflow"
_NOBODY = 65534


def is_installed() -> bool:
    """Return whether there are PostgreSQL's programs, and the drivers with which Airflow speaks to it."""
    return _programs() is not None and all(importlib.util.find_spec(name) for name in ("psycopg2", "asyncpg"))


class PostgreSQL:
    """A PostgreSQL server on 127.0.0.1 with a temporary data directory; a context manager.

    It needs the programs of Debian's package `postgresql`. PostgreSQL refuses to run as root, so root runs it as the
    user nobody. `url` is the value for Airflow's `sql_alchemy_conn`, with a random password.

    :param log: file for its output
    :raises ServiceFailed: when it is entered: PostgreSQL is not installed, or does not start
    """

    def __init__(self, log: Path) -> None:
        self._log = log

    def __enter__(self) -> PostgreSQL:
        programs = _programs()
        if programs is None:
            raise ServiceFailed("PostgreSQL is not installed: apt-get install postgresql")
        # Not below `home`: the user nobody may not enter root's directories.
        self._home = Path(tempfile.mkdtemp(prefix="airflow-postgresql-"))
        password = secrets.token_urlsafe(12)
        secret = self._home / "password"
        secret.touch(mode=0o600)
        secret.write_text(password)
        as_nobody: list[str] = []
        if os.geteuid() == 0:
            as_nobody = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
            for path in (self._home, secret):
                os.chown(path, _NOBODY, _NOBODY)
        data = self._home / "data"
        port = free_port()
        login = [f"--username={USER}", "--auth=scram-sha-256", f"--pwfile={secret}"]
        initdb = [*as_nobody, str(programs / "initdb"), "--no-sync", f"--pgdata={data}", *login]
        subprocess.run(initdb, check=True, capture_output=True, env=clean_environment(), cwd="/")
        options = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 300,
            # The workers of a killed scheduler keep its connections open, and with them its locks.
            "idle_in_transaction_session_timeout": "15s",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self.service = Service(
            "PostgreSQL",
            [*as_nobody, str(programs / "postgres"), "-D", str(data), *words],
            environment=clean_environment(),
            log=self._log,
        )
        try:
            wait_until(
                lambda: "ready to accept connections" in self._log.read_text(),
                "PostgreSQL accepts connections",
                services=[self.service],
            )
        except BaseException:
            self.__exit__()
            raise
        self.url = f"postgresql+psycopg2://{USER}:{password}@127.0.0.1:{port}/postgres"
        return self

    def __exit__(self, *exception: object) -> None:
        self.service.stop()
        shutil.rmtree(self._home, ignore_errors=True)


def _programs() -> Path | None:
    """Return the directory of the newest installed PostgreSQL's programs, which Debian does not put into PATH."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None
